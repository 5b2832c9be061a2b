"""Do rows go on after their last target, so that a causal model learns nothing from their ends?"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.measures.trained_targets import TrainedBatch, TrainedTargets

MIN_UNUSED_IDS = 3
"""Different ids after the last targets of the rows: fewer may be the template of an answer's end."""
MIN_ROWS = 8
MIN_UNUSED = 2
"""Ids of a row after its last target, at least: one may be the end of a window."""
MOST = 0.95
"""Fraction of the rows that have such an end. Packed rows end with a whole answer now and then."""


@dataclass(frozen=True)
class UnusedEnds:
    """The ends of rows that are trained from their start on, but not to their end.

    share: of all ids without padding. n_rows: that were looked at. has_turns: whether ignored ids, that vary, also come
    between trained ones.
    """

    share: float
    n_rows: int
    has_turns: bool


@dataclass(frozen=True)
class _Row:
    """One row. n: ids without padding. start: those before its first target. unused: those after its last target.

    ignored_between: ids between two targets that are none.
    """

    n: int
    start: tuple[int, ...]
    unused: Tensor
    ignored_between: Tensor


def unused_share(x: Tensor, y: Tensor, ignored: int) -> float:
    """Return the fraction of the ids, without padding, that come after their row's last target in x.

    A causal model uses these ids neither as inputs nor as targets.
    """
    rows = list(_rows(x, y, ignored))
    return _share(rows)


def unused_ends(trained: TrainedTargets, ignored: int) -> UnusedEnds | None:
    """Return the unused ends of the first batches' rows, if almost all rows have one; else None.

    Such rows look like prompts that are trained and answers that are ignored, in one turn or several. The ends must
    differ in length: a model that predicts several steps ahead has no targets for the last positions of any row.
    """
    rows = [row for batch in trained.batches for row in _rows_of(batch, ignored)]
    if len(rows) < MIN_ROWS:
        return None
    # What comes before the first target of all rows alike is the template of a prompt.
    template, _ = Counter(row.start for row in rows).most_common(1)[0]
    ends = [row for row in rows if len(row.start) <= 2 or row.start == template]
    ends = [row for row in ends if len(row.unused) >= MIN_UNUSED]
    if len(ends) < MOST * len(rows) or len({len(row.unused) for row in ends}) < 2:
        return None
    share = _share(rows)
    between = torch.unique(torch.cat([row.ignored_between for row in rows]))
    return UnusedEnds(share, len(rows), has_turns=len(between) >= MIN_UNUSED_IDS) if share else None


def _share(rows: list[_Row]) -> float:
    unused = [row.unused for row in rows]
    if not rows or len(torch.unique(torch.cat(unused))) < MIN_UNUSED_IDS:
        return 0.0
    return sum(map(len, unused)) / sum(row.n for row in rows)


def _rows_of(batch: TrainedBatch, ignored: int) -> Iterator[_Row]:
    return _rows(batch.x, batch.trained, ignored)


def _rows(x: Tensor, y: Tensor, ignored: int) -> Iterator[_Row]:
    """Yield each row with a counted target. The end of a row counts as padding if it repeats one id."""
    counted = y != ignored
    position = torch.arange(x.shape[1], device=x.device)
    lasts = torch.where(counted, position, -1).amax(dim=1).tolist()
    firsts = torch.where(counted, position, x.shape[1]).amin(dim=1).tolist()
    repeated = (x == x[:, -1:]).flip(1).cumprod(dim=1).sum(dim=1).tolist()
    for row, is_counted, first, last, n_repeated in zip(x, counted, firsts, lasts, repeated, strict=True):
        n = x.shape[1] - (n_repeated if n_repeated > 1 else 0)
        if last >= 0:
            between = row[first + 1 : last + 1][~is_counted[first:last]]
            yield _Row(n, tuple(row[: first + 1].tolist()), row[last + 2 : n], between)
