"""Do targets come from other places of the same data than their inputs? Called by the check of the targets."""

import math

import torch
from torch import Tensor

LENGTHS = (10, 14, 18, 24, 32)
"""Ids of a run that shows that two rows come from the same place; in a text that repeats phrases it must be longer."""
MIN_DIFFERENT = 4
"""Different ids that a run must have: padding and repeated ids are the same everywhere."""
MIN_ROWS = 32
MAX_ROWS = 128
MAX_IDS = 512
"""Of a row, that are looked at."""
MIN_SHARED = 0.5
"""Fraction of the rows of targets that must share a run with the inputs of another row, so that both are known to be
of the same data."""
MAX_CHANCE = 0.5
"""Probability that the inputs of any other row share a run, above which a row's own inputs cannot stand out."""
DEVIATIONS = 3.0
"""Standard deviations by which a row's own inputs may share runs more often than those of other rows."""


def length_of_unrelated_runs(x: Tensor, y: Tensor, ignored: int) -> int:
    """Return the length of the runs of ids that rows of targets share with other rows' inputs, but not with their own.

    Not with their own means: no more often than chance gives. 0 if they do, or if they share none with others either.
    x, y: int64 [N, T]. Rows that are drawn from one text at random share runs by chance; the targets that belong to
    their inputs share more with these than with others, unless no run of ids is common to both.
    """
    x, y = x[:MAX_ROWS, :MAX_IDS], y[:MAX_ROWS, :MAX_IDS]
    if len(x) < MIN_ROWS or y.shape != x.shape:
        return 0
    for length in LENGTHS:
        if x.shape[1] < 2 * length:
            return 0
        shared = _shared_rows(x, y, ignored, length)
        n_others = [len(rows - {row}) for row, rows in enumerate(shared)]
        chance = sum(n_others) / (len(x) * (len(x) - 1))
        if sum(map(bool, n_others)) < MIN_SHARED * len(x):
            return 0
        if chance <= MAX_CHANCE:
            n_own = sum(row in rows for row, rows in enumerate(shared))
            allowed = len(x) * chance + DEVIATIONS * math.sqrt(len(x) * chance * (1 - chance))
            return length if n_own <= allowed else 0
    return 0


def _shared_rows(x: Tensor, y: Tensor, ignored: int, length: int) -> list[set[int]]:
    """Return for each row of y the rows of x with which it has a run in common."""
    rows_of: dict[int, set[int]] = {}
    for row, runs in enumerate(_runs(x, ignored, length)):
        for run in runs:
            rows_of.setdefault(run, set()).add(row)
    empty: set[int] = set()
    return [empty.union(*(rows_of.get(run, empty) for run in runs)) for runs in _runs(y, ignored, length)]


def _runs(ids: Tensor, ignored: int, length: int) -> list[set[int]]:
    """Return for each row hashes of its runs of `length` ids [N, T]."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(2**62, (length,), generator=generator) * 2 + 1
    windows = ids.cpu().long().unfold(1, length, 1)
    hashes = (windows * factors).sum(dim=2)
    ordered = windows.sort(dim=2).values
    n_different = (ordered.diff(dim=2) != 0).sum(dim=2) + 1
    is_counted = (n_different >= MIN_DIFFERENT) & (windows != ignored).all(dim=2)
    return [set(row[counted].tolist()) for row, counted in zip(hashes, is_counted, strict=True)]
