"""What the event log says about the steps before one that is not finite: a higher learning rate, growing gradients."""

import math
import statistics
from collections import deque
from dataclasses import dataclass

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run

LAST_STEPS = 50
"""Before the step that is not finite."""
LEAST_NORMS = 8
"""Of the gradient, from which on the usual one is known."""
GROWTH = 10.0
"""Times the median norm of the last steps: an order of magnitude is more than differs from batch to batch."""
JUMP = 2.0
"""Times the rate of the step before is a jump of a script's own schedule. Warm-up is slower after its first steps."""
LR_KEYS = ("optim.lr", "optim.lr_factor")
"""Of our trainer, and of a script."""


@dataclass(frozen=True)
class Raised:
    """A learning rate that was raised from `old` to `new`.

    step: of the last of several live changes; where the script's own schedule raised it, the first one with it.
    """

    key: str
    old: float
    new: float
    step: int


@dataclass(frozen=True)
class Grown:
    """The norm of the gradient at the last step, and at the latest one before with a usual norm."""

    old: float
    old_step: int
    new: float
    new_step: int


@dataclass(frozen=True)
class LastLoss:
    """The last loss that was finite, and its step."""

    step: int
    value: float


@dataclass(frozen=True)
class BeforeNonFinite:
    """What went before; None where the log says nothing of it."""

    lr: Raised | None
    grad_norm: Grown | None
    loss: LastLoss | None = None


class LastSteps:
    """The last steps and changes of the learning rate. Give it the events of a run in order."""

    def __init__(self) -> None:
        self._changes: deque[ev.Changed] = deque(maxlen=LAST_STEPS)
        self._norms: deque[tuple[int, float]] = deque(maxlen=LAST_STEPS)
        self._loss: LastLoss | None = None
        self._lr: float | None = None
        self._jump: Raised | None = None

    def update(self, event: ev.Event) -> None:
        """Take the next event into account."""
        if isinstance(event, ev.Started):  # A resumed run goes back to its checkpoint.
            while self._norms and self._norms[-1][0] > event.step:
                self._norms.pop()
            self._loss = None
            self._lr = None
            self._jump = None
        elif isinstance(event, ev.Changed) and event.key in LR_KEYS:
            self._changes.append(event)
        elif isinstance(event, ev.StepDone):
            if math.isfinite(event.loss):
                self._loss = LastLoss(event.step, event.loss)
            if event.grad_norm is not None and math.isfinite(event.grad_norm):
                self._norms.append((event.step, event.grad_norm))
            if self._lr and event.lr >= JUMP * self._lr:
                self._jump = Raised("optim.lr", self._lr, event.lr, event.step)
            self._lr = event.lr

    def before(self, event: ev.NonFinite) -> BeforeNonFinite:
        """Return what went before a step that is not finite."""
        first = event.failed_step - LAST_STEPS
        return BeforeNonFinite(self._raised(first), self._grown(first), self._loss)

    def _raised(self, first: int) -> Raised | None:
        changes = [change for change in self._changes if change.step >= first]
        if not changes:
            return None if self._jump is None or self._jump.step < first else self._jump
        old, new = changes[0].old, changes[-1].new
        if not isinstance(old, int | float) or not isinstance(new, int | float) or new <= old:
            return None
        return Raised(changes[-1].key, old, new, changes[-1].step)

    def _grown(self, first: int) -> Grown | None:
        norms = [(step, norm) for step, norm in self._norms if step >= first]
        if len(norms) < LEAST_NORMS:
            return None
        median = statistics.median(norm for _, norm in norms[:-1])
        last_step, last = norms[-1]
        if last < GROWTH * median:
            return None
        old_step, old = next((step, norm) for step, norm in reversed(norms[:-1]) if norm <= median)
        return Grown(old, old_step, last, last_step)


def read_before(run: Run, event: ev.NonFinite) -> BeforeNonFinite:
    """Return what the event log of a run says about the steps before. Raises RunError or OSError."""
    steps = LastSteps()
    for each in run.log.read(run.log.offset_of(event.failed_step - LAST_STEPS)):
        if each.step < event.failed_step:
            steps.update(each)
    return steps.before(event)
