"""How much time has passed and how many tokens were trained on at each step, for plots over either."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

from tui_lab.app.session.series import Points, Series
from tui_lab.core import events as ev

Axis = Literal["step", "time", "tokens"]
AXES: tuple[Axis, ...] = ("step", "time", "tokens")
SMOOTHING = 0.9
"""Weight of the earlier steps in the moving average that stands for the time of steps that were left out."""


@dataclass
class Progress:
    """Call `add` with the steps in order; some may be left out."""

    seconds: Series = field(default_factory=Series)
    """Training time after each step, without pauses."""
    tokens: Series = field(default_factory=Series)
    _mean: float = 0.0

    def add(self, event: ev.StepDone) -> None:
        last = self.seconds.points[-1] if self.seconds.points else (event.step - 1, 0.0)
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * event.seconds if self._mean else event.seconds
        n_left_out = max(0, event.step - 1 - last[0])
        self.seconds.add(event.step, last[1] + n_left_out * self._mean + event.seconds)
        self.tokens.add(event.step, event.tokens)

    def copy(self) -> "Progress":
        return Progress(self.seconds.copy(), self.tokens.copy(), self._mean)

    def at(self, axis: Axis, step: float) -> float:
        """Return the place of `step` on an axis: a step, seconds or tokens; linear between the known steps."""
        if axis == "step":
            return step
        return interpolated(self._points(axis), step)

    def step_at(self, axis: Axis, place: float) -> float:
        """Return the step at a place on an axis, the inverse of `at`."""
        if axis == "step":
            return place
        return interpolated([(value, step) for step, value in self._points(axis)], place)

    def _points(self, axis: Axis) -> Points:
        return self.seconds.points if axis == "time" else self.tokens.points


def interpolated(points: Points, x: float) -> float:
    """Return the value at `x`, linear between the points, which are in order; that of an end beyond it."""
    if not points:
        return 0.0
    index = bisect_left(points, x, key=lambda point: point[0])
    if index == 0:
        return points[0][1]
    if index == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[index - 1], points[index]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
