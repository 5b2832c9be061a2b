"""Duplicates among rows that are not windows of a text: only equal rows count."""

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.duplicate_search import MOST_PLACES, DuplicateCounts, Search
from tui_lab.core.examples.measure import OnProgress
from tui_lab.core.examples.report import CopyCount, Listed, Place
from tui_lab.core.examples.selection import Part
from tui_lab.core.examples.shown import shown_example, shown_examples
from tui_lab.data.dataset import Dataset
from tui_lab.data.shuffle import mix
from tui_lab.data.tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
ROWS_AT_ONCE = 2**14


def search_rows(search: Search, ids: Ids) -> DuplicateCounts:
    """Count and list the examples `ids` [n] of `search.dataset` whose rows occur again in `search.other`."""
    other = search.other
    hashes = _row_hashes(other, np.arange(other.n_examples, dtype=np.int64), search.report)
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    queries = _row_hashes(search.dataset, ids, search.report)
    first = np.searchsorted(ordered, queries, "left")
    last = np.searchsorted(ordered, queries, "right")
    counts = last - first - (1 if search.is_same else 0)
    most_first = np.argsort(-counts, kind="stable")
    # Of equal rows, one is listed.
    groups = np.sort(np.unique(queries[most_first], return_index=True)[1])
    listed = []
    for row in most_first[groups][: search.top].tolist():
        if counts[row] <= 0:
            break
        same = order[first[row] : last[row]]
        if search.is_same:
            same = same[same != ids[row]]
        example = shown_examples(search.dataset, search.part, ids[row : row + 1], search.task.tokenizer)[0]
        places = _row_places(other, search.within, same[:MOST_PLACES], search.task.tokenizer)
        listed.append(Listed(example, copies=CopyCount(int(counts[row]), 0, places)))
    return DuplicateCounts(int((counts > 0).sum()), 0, tuple(listed))


def _row_places(other: Dataset, part: Part, ids: Ids, tokenizer: Tokenizer) -> tuple[Place, ...]:
    x, y = other.examples(ids)
    rows = [shown_example(part, example, None, (x[row], y[row]), tokenizer) for row, example in enumerate(ids.tolist())]
    return tuple(Place(part, None, row.example, 1.0, exact=True, text=row.text, x=row.x, y=row.y) for row in rows)


def _row_hashes(dataset: Dataset, ids: Ids, report: OnProgress) -> UInt64s:
    """Return a hash of x and y of each example: uint64 [len(ids)]."""
    parts: list[UInt64s] = [np.zeros(0, np.uint64)]
    for start in range(0, len(ids), ROWS_AT_ONCE):
        report("hashing rows", start, len(ids))
        x, y = dataset.examples(ids[start : start + ROWS_AT_ONCE])
        total = np.zeros(len(x), np.uint64)
        for column in np.concatenate([x, y], axis=1).T:
            total = mix(total ^ column.astype(np.uint64))
        parts.append(total)
    return np.concatenate(parts)
