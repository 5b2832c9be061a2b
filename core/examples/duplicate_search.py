"""What duplicates are searched for, and what the search gives."""

from dataclasses import dataclass

from tui_lab.core.examples.measure import OnProgress
from tui_lab.core.examples.report import Listed
from tui_lab.core.examples.selection import Part
from tui_lab.data.dataset import Dataset, Task

MOST_PLACES = 4
"""Copies of one example that are shown."""


@dataclass(frozen=True)
class DuplicateCounts:
    """Of some examples, how many have a copy, and how many a near copy only. listed: those with most copies first."""

    n_exact: int
    n_near: int
    listed: tuple[Listed, ...]


@dataclass(frozen=True)
class Search:
    """Look for examples of `part` in the part `within`; if these are the same, for other places of them.

    top: how many are listed. threshold: least Jaccard index of a near copy.
    """

    task: Task
    part: Part
    within: Part
    top: int
    threshold: float
    report: OnProgress

    @property
    def dataset(self) -> Dataset:
        return self.task.train if self.part == "train" else self.task.val

    @property
    def other(self) -> Dataset:
        return self.task.train if self.within == "train" else self.task.val

    @property
    def is_same(self) -> bool:
        return self.part == self.within
