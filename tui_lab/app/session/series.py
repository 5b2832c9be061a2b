"""One curve of a run, in bounded memory."""

import math
from dataclasses import dataclass, field
from operator import itemgetter

from tui_lab.util import thinning

Points = list[tuple[float, float]]


@dataclass
class Series:
    """(step, value) points in order of step. Past `limit` points, only those with extreme values are kept."""

    limit: int = 4096
    points: Points = field(default_factory=list)

    def add(self, step: int, value: float | None) -> None:
        """Add a point, unless the value is missing or not finite."""
        if value is None or not math.isfinite(value):
            return
        self.points.append((step, value))
        if len(self.points) > self.limit:
            self.points = extremes(self.points, self.limit // 4)

    def copy(self) -> "Series":
        return Series(self.limit, list(self.points))

    @property
    def last(self) -> float | None:
        return self.points[-1][1] if self.points else None


def extremes(points: Points, groups: int) -> Points:
    """Return the points with the lowest and the highest value of each of `groups` groups, and the last point."""
    return thinning.extremes(points, groups, value=itemgetter(1))


def smooth(points: Points, weight: float) -> Points:
    """Return the exponentially weighted mean with bias correction (Kingma and Ba 2015, section 3).

    `weight` is that of the earlier points, 0 to 1.
    """
    mean = 0.0
    correction = 0.0
    smoothed = []
    for step, value in points:
        mean = weight * mean + (1 - weight) * value
        correction = weight * correction + (1 - weight)
        smoothed.append((step, mean / correction))
    return smoothed
