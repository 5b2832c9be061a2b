"""Thin a sequence without losing its peaks."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def extremes(items: Sequence[T], groups: int, value: Callable[[T], float]) -> list[T]:
    """Split `items` into `groups` runs of neighbors and keep the lowest and the highest of each, and the last item.

    A plot with one column per group shows the same peaks as one of all items. Returns all items where there are at most
    two per group.
    """
    if len(items) <= 2 * groups:
        return list(items)
    kept: list[T] = []
    for i in range(groups):
        start = i * len(items) // groups
        places = range(start, (i + 1) * len(items) // groups)
        low = min(places, key=lambda place: value(items[place]))
        high = max(places, key=lambda place: value(items[place]))
        kept += [items[place] for place in sorted({low, high})]
    if kept[-1] is not items[-1]:
        kept.append(items[-1])
    return kept
