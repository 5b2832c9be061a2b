"""Are the targets of rows those of other rows of their batch? Called by the check of the targets."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.measures.trained_targets import TrainedBatch, TrainedTargets

COMPARED_ROWS = 64
"""Rows of a batch that are compared with each other."""
MIN_TARGETS = 4
"""Counted targets of a row that show to which row they belong."""
MIN_ROWS = 4
"""Rows with so many targets."""


@dataclass(frozen=True)
class SwappedRows:
    """Rows whose targets are the next ids of another row of the batch, and not of their own.

    share: of the rows with enough targets. first: the first of them, in the rows of all batches. halves: whether each
    of them has the targets of the row half a batch away.
    """

    share: float
    first: int = 0
    halves: bool = False


def swapped_rows_of(trained: TrainedTargets, ignored: int) -> SwappedRows:
    """Return which rows of the first batches have the targets of another row."""
    n_rows = n_long = n_swapped = first = 0
    halves = True
    for batch in trained.batches:
        swapped, is_long, are_half_away = _swapped(batch, ignored)
        if bool(swapped.any()) and not n_swapped:
            first = n_rows + int(swapped.nonzero()[0, 0])
        halves = halves and are_half_away
        n_rows += len(batch.x)
        n_long += int(is_long.sum())
        n_swapped += int(swapped.sum())
    share = n_swapped / n_long if n_long >= MIN_ROWS else 0.0
    return SwappedRows(share, first, halves and n_swapped > 0)


def _swapped(batch: TrainedBatch, ignored: int) -> tuple[Tensor, Tensor, bool]:
    """Return which rows are swapped, which have enough targets, bool [B], and whether all swapped ones are half a batch
    away from their own.
    """
    later = batch.x[:COMPARED_ROWS, 1:]
    y = batch.trained[:COMPARED_ROWS, :-1]
    is_counted = (y != ignored)[:, None]
    continues = ((y[:, None] == later[None]) | ~is_counted).all(dim=-1)  # [row of y, row of x]
    is_long = is_counted[:, 0].sum(dim=1) >= MIN_TARGETS
    swapped = continues.any(dim=1) & ~continues.diagonal() & is_long
    n = len(y)
    if n < 2 or n % 2 or n != len(batch.x):
        return swapped, is_long, False
    other_half = torch.arange(n, device=y.device).roll(n // 2)
    return swapped, is_long, bool(continues[swapped, other_half[swapped]].all())
