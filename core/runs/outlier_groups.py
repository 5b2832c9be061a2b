"""Which of the rows that stood out show the same text: windows overlap, and an example is drawn again."""

import sys
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tui_lab.core.runs.outlier_rows import OutlierRow

LONGER_TEXT = 0.5
"""Share of the highest excess of a group: rows above it also bring in those that overlap them. A text that stands out
may be longer than a window, but the many rows that stand out a little must not make one group of the whole corpus."""


@dataclass(frozen=True)
class OutlierGroup:
    """Rows that stood out and have tokens in common, the highest excess first."""

    rows: tuple[OutlierRow, ...]

    @property
    def best(self) -> OutlierRow:
        """The row that stood out most."""
        return self.rows[0]

    @property
    def steps(self) -> list[int]:
        """The steps that drew the rows, ascending."""
        return sorted({row.step for row in self.rows})


def grouped(outliers: Iterable[OutlierRow], offsets: Mapping[int, int] | None, length: int) -> list[OutlierGroup]:
    """Return the groups of the rows, the highest excess first.

    offsets: example → its start in the corpus, in tokens; None where there is no corpus. length: of x, in tokens.
    """
    by_example: dict[int, list[OutlierRow]] = defaultdict(list)
    for row in sorted(outliers, key=_highest_first):
        by_example[row.example].append(row)
    places = _Places({example: example if offsets is None else offsets[example] for example in by_example})
    reach = 0 if offsets is None else length  # x and y together have length + 1 tokens.
    groups = []
    for head, head_rows in by_example.items():
        examples: list[int] = []
        ahead = places.take(head, 0)
        while ahead:
            example = ahead.pop()
            examples.append(example)
            if by_example[example][0].excess >= LONGER_TEXT * head_rows[0].excess:
                ahead += places.take(example, reach)
        if examples:
            rows = [row for example in examples for row in by_example[example]]
            groups.append(OutlierGroup(tuple(sorted(rows, key=_highest_first))))
    return groups


def _highest_first(row: OutlierRow) -> tuple[float, int]:
    return -row.excess, row.step


class _Places:
    """The examples that are in no group yet, by their place."""

    def __init__(self, places: Mapping[int, int]) -> None:
        self._place_of = places
        self._sorted = sorted((place, example) for example, place in places.items())
        self._taken: set[int] = set()

    def take(self, example: int, reach: int) -> list[int]:
        """Take and return the examples that start at most `reach` before or after this one."""
        place = self._place_of[example]
        start = bisect_left(self._sorted, (place - reach, -1))
        end = bisect_right(self._sorted, (place + reach, sys.maxsize))
        near = [other for _, other in self._sorted[start:end] if other not in self._taken]
        self._taken.update(near)
        return near
