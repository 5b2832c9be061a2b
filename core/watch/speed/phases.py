"""Where the time of a training step goes: the phases of a loop."""

from collections.abc import Callable
from typing import Literal, get_args

Phase = Literal["data", "forward", "backward", "update", "loop", "evaluation"]
"""forward: from the call of the model to the backward pass. update: clipping and the optimizer's step.

data: waiting for a DataLoader. loop: the rest of the script's loop. evaluation: from a call of the model without
gradients to the next one with gradients.
"""
PHASES: tuple[Phase, ...] = get_args(Phase)


class PhaseClock:
    """clock: seconds. synchronize: waits for the GPU, so that its work counts in the phase that started it."""

    def __init__(self, clock: Callable[[], float], synchronize: Callable[[], None]) -> None:
        self._clock = clock
        self._synchronize = synchronize
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._phase: Phase = "loop"
        self._entered = clock()

    @property
    def phase(self) -> Phase:
        return self._phase

    def enter(self, phase: Phase) -> None:
        """The phase before ends, and `phase` begins."""
        if phase != self._phase:
            self._account()
            self._phase = phase

    def waited(self, seconds: float) -> None:
        """The last `seconds` were spent waiting for data."""
        if self._phase == "evaluation":
            return
        self._account()
        self._seconds[self._phase] -= seconds
        self._seconds["data"] += seconds

    def take(self) -> dict[Phase, float]:
        """Return the seconds of each phase since the last call."""
        self._account()
        seconds = self._seconds
        self._seconds = dict.fromkeys(PHASES, 0.0)
        return seconds

    def _account(self) -> None:
        self._synchronize()
        now = self._clock()
        self._seconds[self._phase] += now - self._entered
        self._entered = now
