"""The update that a recorder is recording."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from tui_lab.core.doctor.loop.gradients import UpdateGradients
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.loop.record import LoopEvent, Operation, SkippedStep, UpdateRecord

MAX_EVENTS = 4000
"""Events that are kept, for a loop that never steps."""


class Loaders:
    """What an update took from DataLoaders."""

    def __init__(self) -> None:
        self.n_batches = 0
        self._n_iterators = 0
        self._line = ""
        self._n_available = 0

    def iterated(self, loader: DataLoader[Any]) -> None:
        """Note that the loop made an iterator of `loader`."""
        self._n_iterators += 1
        self._line = user_line()
        try:
            self._n_available = len(loader)
        except TypeError:  # Of an iterable dataset without a length.
            self._n_available = 0

    @property
    def restarted(self) -> str:
        """The line that made an iterator of several batches for the only batch of the update, or ""."""
        is_one = self._n_iterators == 1 and self.n_batches == 1 and self._n_available > 1
        return self._line if is_one else ""


class Draft:
    """What has happened since the update before. events: those after its step already belong to this one."""

    def __init__(self, events: Sequence[LoopEvent] = ()) -> None:
        self.events = list(events)
        self.losses: list[float] = []
        self.means: list[float | None] = []
        self.compared: list[tuple[Any, Tensor]] = []
        """Inputs and targets of the loss functions that were called since the last backward pass began."""
        self.mean: float | None = None
        """What it returned, if that is a mean."""
        self.n_targets = 0
        self.n_targets_of_backward: list[int] = []
        self.rows: list[int] = []
        self.loaders = Loaders()
        self.lrs: list[float] = []
        self.loss_scale = 1.0
        self.stepped: list[Optimizer] = []
        self.n_events_of_update = 0
        """Events up to the latest step."""
        self._n_events_by_hand: int | None = None
        """Events up to an update by hand that has begun."""
        self.is_stepping = False
        self.n_backwards_in_step = 0
        """Backward calls of the closure of the present step."""
        self.searches = False
        """Whether a step called backward several times, as the line search of LBFGS does."""

    @property
    def is_complete(self) -> bool:
        """Whether an optimizer has stepped, so that the next forward or backward call begins another update."""
        return bool(self.stepped) and not self.is_stepping

    def has_stepped(self, optimizer: Optimizer) -> bool:
        """Return whether `optimizer` stepped in this update."""
        return any(one is optimizer for one in self.stepped)

    def add(
        self,
        operation: Operation,
        *,
        line: str | None = None,
        training: bool | None = None,
        value: float | None = None,
        norm: float | None = None,
        is_detached: bool | None = None,
    ) -> None:
        """Add an event. A forward or evaluation call that equals the event before is counted instead."""
        if len(self.events) >= MAX_EVENTS:
            return
        event = LoopEvent(
            operation, user_line() if line is None else line, training, value, norm, is_detached=is_detached
        )
        if operation in ("forward", "evaluation") and len(self.events) > self.n_events_of_update:
            last = self.events[-1]
            if (last.operation, last.line, last.training) == (operation, event.line, training):
                self.events[-1] = replace(last, count=last.count + 1)
                return
        self.events.append(event)

    def add_evaluation_loss(self, loss: float) -> None:
        """Note a loss that was computed without gradients, if the last event is an evaluation."""
        if self.events and self.events[-1].operation == "evaluation":
            self.events[-1] = replace(self.events[-1], value=loss)

    def began_by_hand(self) -> None:
        """Note that the weights have changed by hand since the last event, at a line that is not known."""
        if self._n_events_by_hand is None:
            self.add("step", line="")
            self._n_events_by_hand = len(self.events)

    def stepped_now(self, optimizer: Optimizer) -> None:
        """Note that `optimizer` has stepped: the update ends here, unless another optimizer steps, too."""
        self.is_stepping = False
        self.searches = self.searches or self.n_backwards_in_step > 1
        self.n_backwards_in_step = 0
        self.stepped.append(optimizer)
        self.n_events_of_update = len(self.events) if self._n_events_by_hand is None else self._n_events_by_hand

    def skipped(self, n_updates: int) -> SkippedStep:
        """Return the record of a step that is skipped after `n_updates` updates."""
        line = next((event.line for event in reversed(self.events) if event.operation == "backward"), "")
        return SkippedStep(n_updates, tuple(self.losses), self.loss_scale, line)

    def numbers_of_stepped(self, optimizers: Sequence[Optimizer]) -> tuple[int, ...]:
        """Return the numbers of those of `optimizers` that stepped in this update."""
        return tuple(number for number, optimizer in enumerate(optimizers) if self.has_stepped(optimizer))

    def record(
        self, *, number: int, gradients: UpdateGradients, n_trainable: int, optimizers: tuple[int, ...]
    ) -> UpdateRecord:
        """Return the record of the update, without what came after its last step."""
        product = gradients.given_norm * gradients.received_norm
        return UpdateRecord(
            number=number,
            events=tuple(self.events[: self.n_events_of_update]),
            losses=tuple(self.losses),
            means=tuple(self.means),
            leftover=gradients.leftover or 0.0,
            given=gradients.given_norm,
            received=gradients.received_norm,
            cosine=gradients.dot / product if product > 0 else float("nan"),
            restarts=gradients.restarts,
            loss_scale=self.loss_scale,
            lrs=tuple(self.lrs),
            moved=len(gradients.moved) / max(1, n_trainable),
            relative_change=gradients.change / gradients.weights if gradients.weights else 0.0,
            rows=tuple(self.rows),
            n_targets=tuple(self.n_targets_of_backward),
            restarted=self.loaders.restarted,
            optimizers=optimizers,
            searches=self.searches,
            not_finite=gradients.not_finite,
            unscaled_at=gradients.mixed.line,
        )
