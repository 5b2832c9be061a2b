"""One curve of a run, in bounded memory."""

import math
from dataclasses import dataclass, field
from operator import itemgetter

from tui_lab.util import thinning

Points = list[tuple[float, float]]


@dataclass
class Series:
    """(step, value) points in order of step. Past `limit` points, groups are thinned to their extremes."""

    limit: int = 4096
    points: Points = field(default_factory=list)

    def add(self, step: int, value: float | None) -> None:
        if value is None or not math.isfinite(value):
            return
        self.points.append((step, value))
        if len(self.points) > self.limit:
            self.points = extremes(self.points, self.limit // 4)

    @property
    def last(self) -> float | None:
        return self.points[-1][1] if self.points else None


def extremes(points: Points, groups: int) -> Points:
    """The points with the lowest and the highest value of each of `groups` groups, and the last point."""
    return thinning.extremes(points, groups, value=itemgetter(1))


def smooth(points: Points, weight: float) -> Points:
    """The exponentially weighted mean, freed of its start at zero (Kingma and Ba 2015, section 3)."""
    total, norm, smoothed = 0.0, 0.0, []
    for step, value in points:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append((step, total / norm))
    return smoothed
