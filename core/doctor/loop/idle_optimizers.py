"""Optimizers that step although none of their weights ever gets a gradient."""

from torch.optim import Optimizer

from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.loop.observed import IdleOptimizer
from tui_lab.core.watch.model.model_search import gradients_of, parameters_of


class IdleWatch:
    """Looks at the gradients of each optimizer's steps until one is not zero."""

    def __init__(self) -> None:
        self._active: set[int] = set()
        self._idle: dict[int, tuple[Optimizer, int, str]] = {}
        """Optimizers without a gradient so far, their number of steps, and the line of the last."""

    def stepped(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped, and the gradients are still there."""
        key = id(optimizer)
        if key in self._active:
            return
        if any(bool(gradient.any()) for gradient in gradients_of([optimizer])):
            self._active.add(key)
            self._idle.pop(key, None)
            return
        n = self._idle[key][1] if key in self._idle else 0
        self._idle[key] = (optimizer, n + 1, user_line())

    @property
    def results(self) -> tuple[IdleOptimizer, ...]:
        """The optimizers that never had a gradient."""
        return tuple(
            IdleOptimizer(type(optimizer).__name__, tuple(parameters_of([optimizer])), n, line)
            for optimizer, n, line in self._idle.values()
        )
