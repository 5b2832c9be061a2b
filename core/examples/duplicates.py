"""Duplicates within a part of the data, and validation examples that are also in the training part."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.copies import LEAST_TOKENS, Copies, Copy, find_copies
from tui_lab.core.examples.measure import OnProgress
from tui_lab.core.examples.report import CopyCount, Listed, Place
from tui_lab.core.examples.selection import Part
from tui_lab.core.examples.shown import shown_example, shown_examples, text_of
from tui_lab.data.dataset import Dataset, Task
from tui_lab.data.shuffle import mix
from tui_lab.data.tasks.text import TextWindows
from tui_lab.data.tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
ROWS_AT_ONCE = 2**14
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

    def run(self, ids: Ids) -> DuplicateCounts:
        """Look for the examples `ids`."""
        dataset, other = self.dataset, self.other
        if isinstance(dataset, TextWindows) and isinstance(other, TextWindows):
            return _search_text(self, dataset, other, ids)
        return _search_rows(self, ids)


def why_exact_only(task: Task) -> str:
    """Return why near-duplicates are not looked for; empty if they are."""
    if not isinstance(task.train, TextWindows):
        return "rows of digits are drawn at random, so that similar ones mean nothing: only equal rows count"
    if task.train.length + 1 < LEAST_TOKENS:
        return f"windows of fewer than {LEAST_TOKENS} tokens have too few n-grams for near-duplicates"
    return ""


# Windows of a text


def _search_text(search: Search, dataset: TextWindows, other: TextWindows, ids: Ids) -> DuplicateCounts:
    starts = ids * dataset.stride
    windows = dataset.tokens[starts[:, None] + np.arange(dataset.length + 1)]
    own = starts if search.is_same else None
    copies = find_copies(other.tokens, windows, own, search.threshold, search.report)
    order = sorted(
        (w for w, each in enumerate(copies) if each.nearest or each.n_exact),
        key=lambda w: (-copies[w].n_exact, -copies[w].n_near, w),
    )
    chosen = _first_of_groups(order, copies, own, dataset.length, search.top)
    listed = []
    tokenizer = search.task.tokenizer
    for w, example in zip(chosen, shown_examples(dataset, search.part, ids[chosen], tokenizer), strict=True):
        places = tuple(_place(other, copy, search.within, tokenizer) for copy in copies[w].nearest[:MOST_PLACES])
        listed.append(Listed(example, copies=CopyCount(copies[w].n_exact, copies[w].n_near, places)))
    n_exact = sum(each.n_exact > 0 for each in copies)
    return DuplicateCounts(n_exact, sum(each.n_exact == 0 and each.n_near > 0 for each in copies), tuple(listed))


def _first_of_groups(order: list[int], copies: list[Copies], starts: Ids | None, length: int, top: int) -> list[int]:
    """Choose windows to list, without those that are a copy of one chosen before."""
    chosen: list[int] = []
    taken: list[int] = []
    for w in order:
        if len(chosen) == top:
            break
        if starts is not None:
            if any(abs(int(starts[w]) - at) < length // 2 for at in taken):
                continue
            taken += [copy.at for copy in copies[w].nearest]
        chosen.append(w)
    return chosen


def _place(other: TextWindows, copy: Copy, part: Part, tokenizer: Tokenizer) -> Place:
    raw = other.tokens[copy.at : copy.at + other.length + 1]
    tokens = other.compact(raw) if other.compact else raw.astype(np.int64)
    x, y = tokens[:-1], tokens[1:]
    return Place(
        part,
        other.start + copy.at,
        None,
        round(copy.similarity, 4),
        copy.exact,
        text_of(x, y, tokenizer),
        tuple(x.tolist()),
        tuple(y.tolist()),
    )


# Rows of other datasets


def _search_rows(search: Search, ids: Ids) -> DuplicateCounts:
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
