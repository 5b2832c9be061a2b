"""How the losses of a loop change from its first updates to its last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.util.plural import counted

SHARE = 0.1
"""Of the updates: the first tenth is compared with the last tenth."""
MIN_UPDATES = 3
"""In each of the two parts."""
SAME_RATIO = 1e-3
"""Relative difference up to which two ratios of losses are equal."""


@dataclass(frozen=True)
class LossCourse:
    """The losses that backward() got in one line of the loop.

    line: "train.py:42". numbers: of the updates, counted from 0. values: for each the mean of its losses, or their sum
        where each is a share of the mean over the whole update.
    """

    line: str
    numbers: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def first(self) -> float:
        """The mean of the first tenth."""
        return _mean(self.values[: self.n_averaged])

    @property
    def last(self) -> float:
        """The mean of the last tenth."""
        return _mean(self.values[-self.n_averaged :])

    @property
    def noise(self) -> float:
        """The standard error of `first` - `last`."""
        return standard_error(self.values[: self.n_averaged], self.values[-self.n_averaged :])

    @property
    def n_averaged(self) -> int:
        """The number of losses in `first`, and in `last`."""
        return min(len(self.values), max(MIN_UPDATES, round(SHARE * len(self.values))))

    def times(self, factor: float) -> "LossCourse":
        """Return the same course with each loss multiplied."""
        return replace(self, values=tuple(value * factor for value in self.values))

    def __str__(self) -> str:
        return f"{self.first:.4g} → {self.last:.4g}"


def course_text(course: LossCourse) -> str:
    """Return how the losses changed, and since when they are not finite."""
    broken = [i for i, value in enumerate(course.values) if not math.isfinite(value)]
    if not broken and len(course.values) <= course.n_averaged:
        n = len(course.values)
        return f"{course.first:.4g}" + (f" (mean of {n})" if n > 1 else "")
    if not broken:
        return f"{course} ({_means_text(course)})"
    i = broken[0]
    if len(broken) < len(course.values) - i:
        finite = [(n, v) for n, v in zip(course.numbers, course.values, strict=True) if math.isfinite(v)]
        finite_course = replace(course, numbers=tuple(n for n, _ in finite), values=tuple(v for _, v in finite))
        others = f"{counted(len(broken), 'other')} not finite"
        return f"{finite_course} ({_means_text(finite_course)}; {others})"
    since = f"{course.values[i]:g} from update {course.numbers[i] + 1} on"
    return f"{course.values[0]:.4g}, {since}, after {course.values[i - 1]:.4g}" if i else since


def _means_text(course: LossCourse) -> str:
    return f"means of the first and the last {course.n_averaged}"


def loss_courses(record: LoopRecord) -> list[LossCourse]:
    """Return the losses of each line that calls backward(), the most frequent first."""
    losses: dict[str, dict[int, list[float]]] = {}
    of_update = sum if are_shares(record) else _mean
    for update in record.updates:
        for event in update.events_of("backward"):
            if event.value is not None:
                losses.setdefault(event.line, {}).setdefault(update.number, []).append(event.value)
    courses = [
        LossCourse(line, tuple(values), tuple(of_update(each) for each in values.values()))
        for line, values in losses.items()
    ]
    return sorted(courses, key=lambda course: -len(course.values))


def are_shares(record: LoopRecord) -> bool:
    """Return whether the losses of an update's micro-batches add up to the mean over all of its targets.

    Each was divided by the number of micro-batches, or is a sum divided by the number of targets of the whole update.
    """
    accumulated = [update for update in record.updates if len(update.losses) > 1]
    return bool(accumulated) and all(abs(sum(_ratios(update)) - 1) <= SAME_RATIO for update in accumulated)


def constant_loss(record: LoopRecord) -> float | None:
    """Return the loss of an update for the best constant prediction.

    None unless each loss is the mean of what a loss function of torch returned, times the same number.
    """
    constant = record.observed.constant_loss
    if are_shares(record):
        return constant or None
    ratios = [ratio for update in record.updates for ratio in _ratios(update)]
    if not constant or not ratios or not max(ratios) - min(ratios) <= SAME_RATIO * abs(ratios[0]):
        return None
    return constant * ratios[0]


def _ratios(update: UpdateRecord) -> list[float]:
    """Return each loss over the mean of the loss function that it comes from; NaN where that is not known."""
    return [loss / mean if mean else math.nan for loss, mean in zip(update.losses, update.means, strict=True)]


def standard_error(first: Sequence[float], last: Sequence[float]) -> float:
    """Return that of the difference of the means of two series; infinite if a value is not finite."""
    if not all(map(math.isfinite, (*first, *last))) or min(len(first), len(last)) < 2:
        return math.inf
    return math.sqrt(stdev(first) ** 2 / len(first) + stdev(last) ** 2 / len(last))


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan
