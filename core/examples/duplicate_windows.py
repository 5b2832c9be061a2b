"""Duplicates and near-duplicates among the windows of a text."""

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.copies import Copies, Copy, find_copies
from tui_lab.core.examples.duplicate_search import MOST_PLACES, DuplicateCounts, Search
from tui_lab.core.examples.report import CopyCount, Listed, Place
from tui_lab.core.examples.selection import Part
from tui_lab.core.examples.shown import shown_examples, text_of
from tui_lab.data.tasks.text import TextWindows
from tui_lab.data.tokenizers import Tokenizer

Ids = npt.NDArray[np.int64]


def search_windows(search: Search, dataset: TextWindows, other: TextWindows, ids: Ids) -> DuplicateCounts:
    """Count and list the windows `ids` [n] of a text that occur again in `other`, exactly or nearly."""
    starts = ids * dataset.stride
    windows = dataset.tokens[starts[:, None] + np.arange(dataset.length + 1)]
    own_starts = starts if search.is_same else None
    copies = find_copies(other.tokens, windows, own_starts, search.threshold, search.report)
    order = sorted(
        (w for w, each in enumerate(copies) if each.nearest or each.n_exact),
        key=lambda w: (-copies[w].n_exact, -copies[w].n_near, w),
    )
    chosen = _first_of_groups(order, copies, own_starts, dataset.length, search.top)
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
