"""Do the last of a series of noisy losses rise? The noise is measured in the series itself."""

import math
from collections.abc import Sequence
from statistics import fmean

N_MEAN = 3
"""Losses that are averaged, at the end and from the lowest one on: the lowest alone is partly luck."""
N_FOR_NOISE = 40
"""Of the last losses, those that the noise is measured in."""
TRIMMED = 0.1
"""Of the second differences, those that are left out as the largest: where a fall ends and a rise begins, one is."""
SECOND_DIFFERENCE = 1.612
"""Mean size of the other second differences of independent normal numbers, in units of their deviation."""
MIN_RISE = 4.0
"""The rise in units of the noise of one loss. Of 80 series of 100 losses with nothing but noise, 1 rises so much."""
UNSURE = 4.0
"""By this fraction more if the noise is known from one second difference; by a tenth of that if from ten."""


def noise(losses: Sequence[float]) -> float:
    """Return the standard deviation of single losses around their course; 0 for fewer than three.

    It is that of second differences x[i-1] - 2x[i] + x[i+1], which a straight rise does not change (Gasser, Sroka and
    Jennen-Steinmetz 1986).
    """
    recent = losses[-N_FOR_NOISE:]
    sizes = sorted(abs(a - 2 * b + c) for a, b, c in zip(recent, recent[1:], recent[2:], strict=False))
    n_left_out = max(1, round(TRIMMED * len(sizes))) if len(sizes) > 2 else 0
    return fmean(sizes[: len(sizes) - n_left_out]) / SECOND_DIFFERENCE if sizes else 0.0


def has_risen(losses: Sequence[float]) -> bool:
    """Return whether the last losses are above those from the lowest one on by more than their noise.

    False if a loss is not finite.
    """
    if len(losses) <= N_MEAN or not all(map(math.isfinite, losses)):
        return False
    lowest = losses.index(min(losses))
    rise = fmean(losses[-N_MEAN:]) - fmean(losses[lowest : lowest + N_MEAN])
    n_differences = min(len(losses), N_FOR_NOISE) - 2
    return rise > MIN_RISE * (1 + UNSURE / n_differences) * noise(losses)
