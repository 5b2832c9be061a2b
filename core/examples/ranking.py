"""The hardest examples at one checkpoint, and those most often wrong over several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.measure import MeasuredRows
from tui_lab.core.examples.report import WrongCount

Ids = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


@dataclass
class Hardest:
    """Keeps the `most` examples of the highest mean loss, of any number that are added."""

    most: int
    ids: Ids = field(default_factory=lambda: np.zeros(0, np.int64))
    losses: Doubles = field(default_factory=lambda: np.zeros(0))
    loss_sum: float = 0.0
    n_targets: int = 0
    n_wrong: int = 0
    n_wrong_examples: int = 0

    def add(self, measured: MeasuredRows) -> None:
        """Take some examples; those without targets have no loss and are not listed."""
        self.loss_sum += float(measured.loss_sums.sum())
        self.n_targets += int(measured.counted.sum())
        self.n_wrong += int(measured.wrong.sum())
        self.n_wrong_examples += int(measured.wrong.any(axis=1).sum())
        losses = measured.mean_losses
        # A loss that is NaN although there are targets is the model's, and worse than any number.
        losses = np.where(np.isnan(losses) & measured.counted.any(axis=1), np.inf, losses)
        counted = ~np.isnan(losses)
        ids = np.concatenate([self.ids, measured.ids[counted]])
        losses = np.concatenate([self.losses, losses[counted]])
        order = np.argsort(-losses, kind="stable")[: self.most]
        self.ids, self.losses = ids[order], losses[order]

    @property
    def mean_loss(self) -> float | None:
        """Mean over all targets, in nats; None if there are none."""
        return self.loss_sum / self.n_targets if self.n_targets else None


class WrongCounts:
    """Counts for each of `ids` at how many checkpoints it was wrong: call `add` for each checkpoint, oldest first.

    A target is wrong if the likeliest token is not it; an example is wrong if one of its targets is, which for a task
    with a right answer is the opposite of an exact match.
    """

    def __init__(self, ids: Ids, length: int) -> None:
        self.ids = ids
        self.n_checkpoints = 0
        self._times_wrong = np.zeros((len(ids), length), np.uint16)
        self._n_targets = np.zeros(len(ids), np.int64)
        self._wrong_at = np.zeros(len(ids), np.int64)
        self._forgotten = np.zeros(len(ids), np.int64)
        self._was_right = np.zeros(len(ids), np.bool_)
        self._loss_sums = np.zeros(len(ids))

    def add(self, checkpoint: Iterable[MeasuredRows]) -> None:
        """Take all examples as one checkpoint's model sees them, in the order of `ids`."""
        start = 0
        for measured in checkpoint:
            rows = slice(start, start + len(measured.ids))
            start = rows.stop
            wrong = measured.wrong
            is_wrong = wrong.any(axis=1)
            self._times_wrong[rows] += wrong
            self._n_targets[rows] = measured.counted.sum(axis=1)
            self._wrong_at[rows] += is_wrong
            self._forgotten[rows] += self._was_right[rows] & is_wrong
            self._was_right[rows] = ~is_wrong
            self._loss_sums[rows] += np.nan_to_num(measured.mean_losses, nan=0.0)
        self.n_checkpoints += 1

    def order(self) -> Ids:
        """Return the rows of `ids`, those most often wrong first: by the fraction of wrong targets, then by loss."""
        fractions = self._n_wrong / np.maximum(1, self._n_targets * self.n_checkpoints)
        order: Ids = np.lexsort((-self._loss_sums, -fractions))
        return order

    def order_by_example(self) -> Ids:
        """Return the rows of `ids`: by the number of checkpoints at which the example was wrong, then by loss."""
        order: Ids = np.lexsort((-self._loss_sums, -self._wrong_at))
        return order

    @property
    def _n_wrong(self) -> Counts:
        n_wrong: Counts = self._times_wrong.sum(axis=1, dtype=np.int64)
        return n_wrong

    @property
    def n_ever_wrong(self) -> int:
        """Examples that were wrong at one checkpoint at least."""
        return int((self._wrong_at > 0).sum())

    @property
    def fraction(self) -> float:
        """Of all targets at all checkpoints, how many were wrong."""
        return float(self._n_wrong.sum() / max(1, int(self._n_targets.sum()) * self.n_checkpoints))

    def of(self, rows: Sequence[int]) -> list[WrongCount]:
        """Return the counts of some rows of `ids`."""
        return [
            WrongCount(
                n_checkpoints=int(self._wrong_at[row]),
                n_wrong=int(self._times_wrong[row].sum()),
                n_predictions=int(self._n_targets[row]) * self.n_checkpoints,
                n_always=int((self._times_wrong[row] == self.n_checkpoints).sum()),
                n_forgotten=int(self._forgotten[row]),
            )
            for row in rows
        ]
