"""GradScalers that a loop creates again, so that none of them adapts its scale."""

from typing import Any

from torch.optim import Optimizer

from tui_lab.core.doctor.loop.lines import user_line


class ScalerWatch:
    """Counts the steps of optimizers that another GradScaler makes than the one of the step before.

    n_rebuilt: how many. created_at: the line that created the last GradScaler.
    """

    def __init__(self) -> None:
        self.n_rebuilt = 0
        self.created_at = ""
        self._scalers: dict[int, tuple[Optimizer, Any]] = {}
        """By the id of the optimizer, which is kept alive so that its id stays its own."""

    def created(self) -> None:
        """The loop has created a GradScaler."""
        self.created_at = user_line()

    def stepped(self, scaler: Any, optimizer: Optimizer) -> None:
        """An enabled GradScaler makes a step of an optimizer, or skips it."""
        before = self._scalers.get(id(optimizer))
        self.n_rebuilt += before is not None and before[1] is not scaler
        self._scalers[id(optimizer)] = (optimizer, scaler)
