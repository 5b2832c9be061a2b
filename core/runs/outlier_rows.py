"""The rows of a run whose loss stood out most when they were drawn.

The mean of a small batch varies so much that one bad row need not make a spike; among the losses of rows it is easy to
see.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tui_lab.core.runs.row_log import Records, mean_losses
from tui_lab.core.runs.spikes import LEAST_LOSSES
from tui_lab.core.runs.suspects import NEIGHBORING_STEPS, typical_rows

STEPS_AT_ONCE = NEIGHBORING_STEPS // 2
"""Steps whose rows are compared with the same steps before them."""


@dataclass(frozen=True)
class OutlierRow:
    """A row whose loss was an outlier among those of the steps before.

    row: its place in the batch of `step`. loss, typical: mean nats per target, of it and of the median row before.
    """

    step: int
    row: int
    example: int
    loss: float
    typical: float

    @property
    def excess(self) -> float:
        """How far the loss is above the typical one."""
        return self.loss - self.typical


def outlier_rows(records: Records, first: int) -> list[OutlierRow]:
    """Return the outliers from step `first` on, each example once, the highest excess first.

    The first steps that are kept have none, since nothing before them is known.
    """
    best: dict[int, OutlierRow] = {}
    for row in _outliers(records, first):
        if row.example not in best or row.excess > best[row.example].excess:
            best[row.example] = row
    return sorted(best.values(), key=lambda row: (-row.excess, row.step))


def _outliers(records: Records, first: int) -> Iterator[OutlierRow]:
    steps = records.steps
    steps = steps[steps >= first]
    for start in range(LEAST_LOSSES, len(steps), STEPS_AT_ONCE):
        begin = int(steps[start])
        typical = typical_rows(records, range(max(first, begin - NEIGHBORING_STEPS), begin), begin)
        if typical is None:
            continue
        end = int(steps[min(start + STEPS_AT_ONCE, len(steps)) - 1])
        for update in records.between(begin, end):
            losses = np.nan_to_num(mean_losses(update), nan=-np.inf)
            for place in np.flatnonzero(typical.outliers(losses)).tolist():
                example = int(update.ids[place])
                yield OutlierRow(update.step, place, example, float(losses[place]), typical.median)
