"""Long lists of whole numbers as ranges."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

FEWEST = 8
"""Whole numbers of a list from which it is written as ranges."""


def ranges_text(values: Sequence[Any]) -> list[str]:
    """Return a long list of rising whole numbers as ranges, such as 3–7; nothing for other lists."""
    if len(values) < FEWEST or not all(type(value) is int for value in values):
        return []
    if any(after <= before for before, after in pairwise(values)):
        return []
    starts = [i for i, value in enumerate(values) if i == 0 or value != values[i - 1] + 1]
    ends = [*(start - 1 for start in starts[1:]), len(values) - 1]
    pairs = [(values[start], values[end]) for start, end in zip(starts, ends, strict=True)]
    return [str(first) if first == last else f"{first}–{last}" for first, last in pairs]
