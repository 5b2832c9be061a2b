"""Copies of windows of a text elsewhere in a text: exact ones by a hash, near ones by the Jaccard index of n-grams.

No pair of windows is compared by chance: of each window, the n-grams that are rarest in the text are looked up, and
where several of them stand at the same distances, the windows are compared. That is prefix filtering (Chaudhuri, Ganti
and Kaushik 2006; Bayardo, Ma and Srikant 2007). Unlike MinHash (Broder 1997), which Lee et al. 2022 use for documents,
it misses no pair by chance, and it finds a copy wherever it begins, not only where a window begins.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.measure import OnProgress, no_progress
from tui_lab.core.examples.ngrams import Places, Tokens, UInt64s, Wanted, hashes, occurrences

Ids = npt.NDArray[np.int64]
N_GRAM = 5
"""Tokens, as in Lee et al. 2022, "Deduplicating training data makes language models better"."""
THRESHOLD = 0.7
"""Least Jaccard index of a near-duplicate: in 65 tokens, two changed ones leave 0.72."""
LEAST_TOKENS = 16
"""Shorter windows have too few n-grams: one changed token leaves less than the threshold."""
VOTES = 3
"""Rare n-grams that must agree on a place before windows are compared."""
MOST_PLACES = 32
"""Places of one n-gram that are looked at. Only of n-grams that repeat more often, near copies can be missed."""
MOST_EXACT = 8
"""Places of exact copies of a window that are kept; all are counted."""


@dataclass(frozen=True)
class Copy:
    """A place in the text with tokens like those of a window. at: its first token; similarity: the Jaccard index."""

    at: int
    similarity: float
    exact: bool


@dataclass(frozen=True)
class Copies:
    """The copies of one window.

    n_exact: how many places have the same tokens. nearest: near and some exact ones, most similar first.
    """

    n_exact: int
    nearest: tuple[Copy, ...]

    @property
    def n_near(self) -> int:
        return sum(not copy.exact for copy in self.nearest)


def find_copies(
    text: Tokens,
    windows: Tokens,
    own: Ids | None,
    threshold: float = THRESHOLD,
    report: OnProgress = no_progress,
) -> list[Copies]:
    """Return the copies of each of `windows` [W, L] in a text.

    own: where the windows begin, if they are from this text: what shares a target with a window (begins less than
    L - 1 tokens from it) is not a copy of it. Two passes over the text, in memory for W windows.
    """
    L = windows.shape[1]
    exact = _exact(text, windows, own, report)
    if threshold >= 1.0 or L < LEAST_TOKENS:
        return [_copies(n, places, [], L) for n, places in exact]
    near = _near(text, windows, own, threshold, report)
    return [_copies(n, places, others, L) for (n, places), others in zip(exact, near, strict=True)]


def _copies(n_exact: int, exact: list[int], near: list[Copy], length: int) -> Copies:
    others = [copy for copy in near if not copy.exact and all(abs(copy.at - at) >= length - 1 for at in exact)]
    return Copies(n_exact, (*(Copy(at, 1.0, exact=True) for at in exact), *others))


def _exact(text: Tokens, windows: Tokens, own: Ids | None, report: OnProgress) -> list[tuple[int, list[int]]]:
    """Return for each window how many places have the same tokens, and the first of them."""
    L = windows.shape[1]
    of_windows = np.array([hashes(window, L)[0] for window in windows], np.uint64)
    wanted = Wanted(of_windows)
    # A window may be followed by as many places that share a target with it, all with the same tokens.
    places = Places(len(wanted), MOST_EXACT + 2 * L)
    for hits in occurrences(text, L, wanted, report, "looking for equal windows"):
        places.add(hits)
    by_hash = places.by_hash()
    results = []
    for w, which in enumerate(wanted.index(of_windows).tolist()):
        at = by_hash[which]
        n = int(places.counts[which])
        if own is not None:
            start = int(own[w])
            nearby = np.asarray(text[max(0, start - L + 2) : start + 2 * L - 2])
            n -= int((hashes(nearby, L) == of_windows[w]).sum())
            at = at[np.abs(at - start) >= L - 1]
        same = [place for place in at[:MOST_EXACT].tolist() if np.array_equal(text[place : place + L], windows[w])]
        results.append((n, same))
    return results


def _near(text: Tokens, windows: Tokens, own: Ids | None, threshold: float, report: OnProgress) -> list[list[Copy]]:
    """Return the near copies of each window, most similar first; those that overlap a better one are left out."""
    L = windows.shape[1]
    grams = np.array([hashes(window, N_GRAM) for window in windows])  # [W, L - N_GRAM + 1]
    wanted = Wanted(grams.ravel())
    counts = np.zeros(len(wanted), np.int64)
    for hits in occurrences(text, N_GRAM, wanted, report, "counting n-grams"):
        counts += np.bincount(hits.which, minlength=len(counts))
    rare = _rarest(grams, wanted, counts, threshold)
    starts = _starts(text, rare, report)
    results = []
    for w, candidates in enumerate(starts):
        if w % 64 == 0:
            report("comparing windows", w, len(starts))
        if own is not None:
            candidates = candidates[np.abs(candidates - own[w]) >= L - 1]
        compared = [
            copy for at in candidates.tolist() if (copy := _compared(text, windows[w], grams[w], at, threshold))
        ]
        results.append(_apart(compared, L))
    return results


@dataclass(frozen=True)
class _Rare:
    """The rare n-grams of all windows, one row each: hash, window, place in the window."""

    hashes: UInt64s
    window: Ids
    place: Ids
    n_windows: int
    length: int


def _rarest(grams: UInt64s, wanted: Wanted, counts: Ids, threshold: float) -> _Rare:
    """Choose of each window's u distinct n-grams the u - ⌈t u⌉ + VOTES rarest.

    A window with a Jaccard index of at least t shares ⌈t u⌉ of them, so at least VOTES of these.
    """
    chosen_hashes = []
    chosen_windows = []
    chosen_places = []
    for w, row in enumerate(grams):
        distinct, first = np.unique(row, return_index=True)
        n = min(len(distinct), len(distinct) - math.ceil(threshold * len(distinct)) + VOTES)
        order = np.argsort(counts[wanted.index(distinct)], kind="stable")[:n]
        chosen_hashes.append(distinct[order])
        chosen_places.append(first[order])
        chosen_windows.append(np.full(n, w))
    return _Rare(
        np.concatenate(chosen_hashes),
        np.concatenate(chosen_windows),
        np.concatenate(chosen_places),
        len(grams),
        grams.shape[1] + N_GRAM - 1,
    )


def _starts(text: Tokens, rare: _Rare, report: OnProgress) -> list[Ids]:
    """Return for each window where in the text a near copy may begin."""
    wanted = Wanted(rare.hashes)
    places = Places(len(wanted), MOST_PLACES)
    for hits in occurrences(text, N_GRAM, wanted, report, "looking for near copies"):
        places.add(hits)
    by_hash = places.by_hash()
    index = wanted.index(rare.hashes)
    ends = np.searchsorted(rare.window, np.arange(rare.n_windows + 1))
    starts = []
    for first, last in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        votes = [by_hash[index[i]] - rare.place[i] for i in range(first, last)]
        least = min(VOTES, last - first)
        starts.append(_agreed(np.concatenate(votes), least, len(text) - rare.length, rare.length // 8))
    return starts


def _agreed(votes: Ids, least: int, last: int, grid: int) -> Ids:
    """Return one start for each group of at least `least` votes within `grid` tokens: the one with most votes."""
    starts: set[int] = set()
    grid = max(1, grid)
    for shift in (0, grid // 2):
        cells, counts = np.unique((votes + shift) // grid, return_counts=True)
        for cell in cells[counts >= least].tolist():
            here, n = np.unique(votes[(votes + shift) // grid == cell], return_counts=True)
            starts.add(int(np.clip(here[np.argmax(n)], 0, last)))
    return np.array(sorted(starts), np.int64)


def _compared(text: Tokens, window: Tokens, grams: UInt64s, at: int, threshold: float) -> Copy | None:
    """Compare a window with the text at a place; None if the Jaccard index is below the threshold."""
    other = np.asarray(text[at : at + len(window)])
    similarity = jaccard(grams, hashes(other, N_GRAM))
    return Copy(at, similarity, exact=np.array_equal(other, window)) if similarity >= threshold else None


def jaccard(one: UInt64s, other: UInt64s) -> float:
    """Return |A ∩ B| / |A ∪ B| of two collections of hashes, as sets."""
    both = len(np.intersect1d(one, other))
    return both / (len(np.unique(one)) + len(np.unique(other)) - both)


def _apart(copies: list[Copy], length: int) -> list[Copy]:
    """Return the copies, most similar first, without those that share a target with a better one."""
    kept: list[Copy] = []
    for copy in sorted(copies, key=lambda each: (-each.similarity, each.at)):
        if all(abs(copy.at - other.at) >= length - 1 for other in kept):
            kept.append(copy)
    return kept
