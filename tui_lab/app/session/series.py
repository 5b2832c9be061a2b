"""One curve of a run, in bounded memory."""

import math
from dataclasses import dataclass, field

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
    """At most two points a group of neighbours, its least and its greatest: what a drawing of that many columns
    can show, with no peak lost."""
    if len(points) <= 2 * groups:
        return points
    kept: Points = []
    for i in range(groups):
        group = points[i * len(points) // groups : (i + 1) * len(points) // groups]
        low, high = min(group, key=_value), max(group, key=_value)
        kept += [low] if low == high else sorted((low, high))
    if kept[-1] != points[-1]:
        kept[-1] = points[-1]
    return kept


def _value(point: tuple[float, float]) -> float:
    return point[1]


def smooth(points: Points, weight: float) -> Points:
    """The exponentially weighted mean, freed of its start at zero (Kingma and Ba 2015, section 3)."""
    total, norm, smoothed = 0.0, 0.0, []
    for step, value in points:
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        smoothed.append((step, total / norm))
    return smoothed
