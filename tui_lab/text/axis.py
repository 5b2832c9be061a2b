"""A range of values along one side of a chart, and its ticks."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tui_lab.runs.numbers import short_number
from tui_lab.text.tick_labels import evenly

Floats = NDArray[np.float64]
LEAST_SPAN = 4e-3
"""Of the largest value: a shorter range would need ticks with more than four significant digits."""
NEAR_ZERO = 0.02
"""Of the largest value: a range that begins below this begins at zero."""


@dataclass(frozen=True)
class Tick:
    """share: its place on the axis, 0 to 1."""

    share: float
    label: str


Fits = Callable[[Sequence[Tick]], bool]


@dataclass(frozen=True)
class Axis:
    """The values from `low` to `high`, which is larger; log: by their logarithm, both positive."""

    low: float
    high: float
    log: bool = False

    def shares(self, values: Floats) -> Floats:
        """Return the places of values: 0 at `low`, 1 at `high`. NaN for those that have no logarithm."""
        if not self.log:
            return (values - self.low) / (self.high - self.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log10(np.where(values > 0, values, np.nan))
        return np.asarray((logs - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low)))

    def share(self, value: float) -> float:
        if not self.log:
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low) if value > 0 else math.nan

    def value(self, share: float) -> float:
        """Return the value at a place."""
        if self.log:
            return float(self.low ** (1 - share) * self.high**share)
        return self.low + share * (self.high - self.low)

    def ticks(self, fits: Fits, *, most: int = 40, whole: bool = False) -> list[Tick]:
        """Return the most ticks that fit, `most` or fewer, at multiples of 1, 2 or 5 times a power of ten.

        whole: at whole numbers.
        """
        lone: list[Tick] = []
        for values in self._tick_values(max(2, most), whole=whole):
            labels = [short_number(value) for value in values] if self.log else evenly(values)
            ticks = [Tick(self.share(value), label) for value, label in zip(values, labels, strict=True)]
            if fits(ticks) and len(ticks) >= 2:
                return ticks
            lone = lone or ticks[:1]
        low = math.ceil(self.low) if whole else self.low
        high = math.floor(self.high) if whole else self.high
        ends = [Tick(self.share(value), short_number(value)) for value in (low, high)]
        if low < high and fits(ends):
            return ends
        return lone if whole else ends[1:]

    def _tick_values(self, most: int, *, whole: bool) -> Iterator[list[float]]:
        """Yield possible ticks, fewer and fewer."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for digits, every in (((1, 2, 5), 1), ((1,), 1), ((1,), 2), ((1,), 4)):
                values = [digit * 10.0**decade for decade in decades if decade % every == 0 for digit in digits]
                yield [value for value in values if self.low <= value <= self.high]
        power = math.floor(math.log10((self.high - self.low) / most))
        for exponent in range(max(power, 0) if whole else power, power + 5):
            for digit in (1, 2, 5):
                interval = digit * 10.0**exponent
                if interval * most < self.high - self.low:
                    continue
                first = math.ceil(self.low / interval - 1e-9)
                last = math.floor(self.high / interval + 1e-9)
                yield [count * interval for count in range(first, last + 1)]


def axis_over(values: Floats, *, log: bool = False, from_zero: bool = False, least_share: float = LEAST_SPAN) -> Axis:
    """Return an axis that holds all values, or all positive ones if it is logarithmic; 0 to 1 if there are none.

    least_share: of the largest value, the least span; 0 for an axis that ends exactly at the lowest and highest value.
    """
    values = values[np.isfinite(values)]
    if log:
        values = values[values > 0]
    if not len(values):
        return Axis(0.1, 1.0, log=True) if log else Axis(0.0, 1.0)
    low = float(values.min())
    high = float(values.max())
    if log and high == low:
        return Axis(low / 2, high * 2, log)
    if from_zero or (least_share and not log and 0 < low < NEAR_ZERO * high):
        low = min(low, 0.0)
    least = least_share * max(abs(low), abs(high))
    if high - low < least or high == low:
        middle = (low + high) / 2
        half = least / 2 or 0.5
        low = middle - half
        high = middle + half
    return Axis(low, high, log)
