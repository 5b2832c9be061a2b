"""The time of each step of a script, without evaluations and pauses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StepClock:
    """clock: seconds. A step lasts from the end of the one before to its optimizer's step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._step_began: float | None = None
        self._evaluation_began: float | None = None
        self._excluded = 0.0

    @property
    def is_evaluating(self) -> bool:
        return self._evaluation_began is not None

    def evaluation(self) -> None:
        """The model works without gradients: the time from here to the next training call is not that of a step."""
        if self._evaluation_began is None:
            self._evaluation_began = self._clock()

    def training(self) -> bool:
        """Training begins or continues; return whether that ended an evaluation."""
        began = self._evaluation_began
        if self._step_began is None:
            self._step_began = self._clock()
        elif began is not None:
            self._excluded += self._clock() - began
        self._evaluation_began = None
        return began is not None

    def optimizer_stepped(self) -> float:
        """An optimizer has stepped: return the time since the one before it. What follows belongs to the next one."""
        now = self._clock()
        seconds = 0.0 if self._step_began is None else max(0.0, now - self._step_began - self._excluded)
        self._step_began = now
        self._excluded = 0.0
        return seconds

    def exclude(self, seconds: float) -> None:
        """Do not count `seconds` of the present step, which the script did not use."""
        self._excluded += seconds

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Do not count the time of the block, which may lie in the middle of a step: before its optimizer's step."""
        began = self._clock()
        try:
            yield
        finally:
            self.exclude(self._clock() - began)
