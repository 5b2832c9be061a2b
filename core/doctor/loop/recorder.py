"""Records a training loop while it runs: the order of its calls, its gradients, its rates and its rows."""

from collections.abc import Callable, Sequence
from types import TracebackType

from torch import nn
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.call_capture import CallCapture
from tui_lab.core.doctor.loop.hooks import LoopHooks
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.loop.record_builder import RecordBuilder


class LoopRecorder:
    """Records what happens in this process between `with LoopRecorder() as recorder:` and the end of the block.

    model: None: the outermost module that is called with gradients and owns the optimizers' parameters.
    optimizers: those that exist already; others are found when they are created.
    on_update: called at the boundary after each update; it may raise StopRequested to end a script.
    measure_updates: for how many updates the loss is measured, see LossMeasurement.
    capture: what gets the loop's batches and outputs.
    """

    def __init__(
        self,
        *,
        model: nn.Module | None = None,
        optimizers: Sequence[Optimizer] = (),
        on_update: Callable[[UpdateRecord], None] = lambda update: None,
        measure_updates: int = 2,
        capture: CallCapture | None = None,
    ) -> None:
        self._builder = RecordBuilder(model, optimizers, on_update, measure_updates, capture or CallCapture())
        self._hooks = LoopHooks(self._builder)

    def __enter__(self) -> "LoopRecorder":
        self._hooks.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.remove()
        self._builder.release()

    def hand_over(self, other: "LoopRecorder") -> None:
        """Let another recorder, which was not entered, record from now on; it removes the hooks."""
        self._builder.close_update(call=False)
        self._builder.release()
        other._hooks = self._hooks
        self._hooks.redirect(other._builder)

    @property
    def model(self) -> nn.Module | None:
        """The model; None until it is known."""
        return self._builder.modules.model

    @property
    def has_called_model(self) -> bool:
        """Whether a module with parameters of the model was called with gradients."""
        return self._builder.modules.has_called_model

    @property
    def moves_by_hand(self) -> bool:
        """Whether the weights have changed without a step of any optimizer."""
        return self._builder.moves_by_hand

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that have stepped, in the order of their first step; of several over the same weights the last."""
        return list(self._builder.optimizers.stepped)

    @property
    def n_rebuilt(self) -> int:
        """How often another optimizer took over the weights of one that had stepped."""
        return self._builder.optimizers.n_rebuilt

    @property
    def created_optimizers(self) -> list[Optimizer]:
        """All that are known, whether or not they have stepped."""
        return list(self._builder.optimizers.created)

    def record(self, *, has_ended: bool = False) -> LoopRecord:
        """Return what was recorded so far. has_ended: whether the loop has run to its own end."""
        return self._builder.record(has_ended=has_ended)
