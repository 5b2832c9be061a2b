"""The rows of a run whose loss stood out most when they were drawn.

The mean of a small batch varies so much that one bad row need not make a spike; among the losses of rows it is easy to
see.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tui_lab.core import events as ev
from tui_lab.core.runs.row_log import Growing, Records, RowLog, mean_losses
from tui_lab.core.runs.spikes import LEAST_LOSSES
from tui_lab.core.runs.suspects import NEIGHBORING_STEPS, typical_rows

STEPS_AT_ONCE = NEIGHBORING_STEPS // 2
"""Steps whose rows are compared with the same steps before them: 1 to 25, 26 to 50, and so on."""
SAME_DATASET = ("data.overfit", "data.shuffle", "data.skip_examples")
"""Settings of `data` that leave the ids of examples as they are."""


@dataclass(frozen=True)
class OutlierRow:
    """A row whose loss was an outlier among those of the steps before.

    row: its place in the batch of `step`, from 0; n_rows: of that batch. loss, typical: mean nats per target, of it and
    of the median row before.
    """

    step: int
    row: int
    example: int
    loss: float
    typical: float
    n_rows: int

    @property
    def excess(self) -> float:
        """How far the loss is above the typical one."""
        return self.loss - self.typical


class OutlierIndex:
    """The outliers of a log that grows: what was read and judged is kept, so that asking again costs what is new."""

    def __init__(self, log: RowLog) -> None:
        self._log = log
        self._begin(0)

    def _begin(self, first: int) -> None:
        self._first = first
        self._read_until: Growing | None = None
        self._recent = Records([])
        """The records that steps to come are compared with."""
        self._judged = 0
        """The last step whose rows need not be looked at again."""
        self._first_judged: int | None = None
        """The first step with enough steps before it."""
        self._outliers: list[OutlierRow] = []

    def read(self, first: int) -> list[OutlierRow]:
        """Return the outliers from step `first` on, in the order of their steps. Raises RunError or OSError.

        The first steps that are kept have none, since nothing before them is known.
        """
        if first != self._first:
            self._begin(first)
        new = self._read_new()
        records = Records([*self._recent.blocks, *new.blocks])
        latest: list[OutlierRow] = []
        for begin, end in self._parts(records):
            latest = list(_outliers(records, self._first, begin, end))
            if end % STEPS_AT_ONCE == 0:
                self._outliers += latest
                self._judged = end
                latest = []
        is_known = self._first_judged is not None
        self._recent = records.since(self._judged + 1 - NEIGHBORING_STEPS if is_known else self._first)
        return [*self._outliers, *latest]

    def _read_new(self) -> Records:
        new = None if self._read_until is None else self._log.read_after(self._read_until)
        if new is None:  # A run that is resumed from a checkpoint has another log from there on.
            self._begin(self._first)
            new = self._log.read_growing()
        # What was read is not kept here: it may have tens of megabytes.
        self._read_until = Growing(Records([]), new.identity, new.n_bytes, new.last_record)
        return new.records

    def _parts(self, records: Records) -> Iterator[tuple[int, int]]:
        """Yield the first and last step of each part that can be judged; a last one that is not complete ends early."""
        steps = records.steps
        steps = steps[steps >= self._first]
        if self._first_judged is None:
            if len(steps) <= LEAST_LOSSES:
                return
            self._first_judged = int(steps[LEAST_LOSSES])
        steps = steps[steps >= max(self._first_judged, self._judged + 1)]
        for part in np.unique((steps - 1) // STEPS_AT_ONCE).tolist():
            begin = max(self._first_judged, part * STEPS_AT_ONCE + 1)
            yield begin, min(int(steps[-1]), (part + 1) * STEPS_AT_ONCE)


def strongest(outliers: Iterable[OutlierRow]) -> list[OutlierRow]:
    """Return each example once, where its excess was highest; the highest excess first."""
    best: dict[int, OutlierRow] = {}
    for row in outliers:
        if row.example not in best or row.excess > best[row.example].excess:
            best[row.example] = row
    return sorted(best.values(), key=lambda row: (-row.excess, row.step))


def first_comparable(changes: Iterable[ev.Changed]) -> int:
    """Return the first step after which no change gave the ids to other examples."""
    steps = [
        change.step + 1
        for change in changes
        if change.key == "model.context" or (change.key.startswith("data.") and change.key not in SAME_DATASET)
    ]
    return max(steps, default=0)


def _outliers(records: Records, first: int, begin: int, end: int) -> Iterator[OutlierRow]:
    """Yield the rows of the steps `begin` … `end` that stand out from those before."""
    typical = typical_rows(records, range(max(first, begin - NEIGHBORING_STEPS), begin), begin)
    if typical is None:
        return
    for steps, losses in records.losses_between(begin, end):
        is_outlier = typical.outliers(np.nan_to_num(losses, nan=-np.inf))
        for step in steps[is_outlier.any(axis=1)].tolist():
            update = records.at(step)
            assert update is not None
            row_losses = mean_losses(update)
            for place in np.flatnonzero(typical.outliers(np.nan_to_num(row_losses, nan=-np.inf))).tolist():
                example = int(update.ids[place])
                yield OutlierRow(step, place, example, float(row_losses[place]), typical.median, len(update.ids))
