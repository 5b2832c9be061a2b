"""Duplicates within a part of the data, and validation examples that are also in the training part."""

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.copies import LEAST_TOKENS
from tui_lab.core.examples.duplicate_rows import search_rows
from tui_lab.core.examples.duplicate_search import DuplicateCounts, Search
from tui_lab.core.examples.duplicate_windows import search_windows
from tui_lab.data.dataset import Task
from tui_lab.data.tasks.text import TextWindows

Ids = npt.NDArray[np.int64]


def find_duplicates(search: Search, ids: Ids) -> DuplicateCounts:
    """Look for the examples `ids`."""
    dataset = search.dataset
    other = search.other
    if isinstance(dataset, TextWindows) and isinstance(other, TextWindows):
        return search_windows(search, dataset, other, ids)
    return search_rows(search, ids)


def why_exact_only(task: Task) -> str:
    """Return why near-duplicates are not looked for; empty if they are."""
    if not isinstance(task.train, TextWindows):
        return "rows of digits are drawn at random, so that similar ones mean nothing: only equal rows count"
    if task.train.length + 1 < LEAST_TOKENS:
        return f"windows of fewer than {LEAST_TOKENS} tokens have too few n-grams for near-duplicates"
    return ""
