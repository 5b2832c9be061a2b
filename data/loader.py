"""The loader: which examples a step sees, as a pure function of its settings and the step."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tui_lab.data.dataset import Dataset
from tui_lab.data.shuffle import Order, Shuffle
from tui_lab.util.errors import DataError

Ids = npt.NDArray[np.int64]
MOST_TOKENS = 2**24
"""Of a batch: with the windows it is cut from, half a GiB."""


@dataclass(frozen=True)
class Batch:
    """One step's data. x, y: int64 [B, T]; ids: [B]; offsets: [B] in tokens or None."""

    step: int
    x: Ids
    y: Ids
    ids: Ids
    offsets: Ids | None
    epoch: int
    position: int
    """Draws into the epoch of the first example."""
    order: Order

    @property
    def head(self) -> tuple[int, ...]:
        """The first ids of this epoch's permutation."""
        return self.order.head(self.epoch)


@dataclass(frozen=True)
class Loader:
    """`batch(step)` for any step at or after `from_step`, past or future, in any order.

    `share`: (r, n) gives the r-th of every n examples of each batch, the part of one process among several.

    `from_step` and `from_draw` say where these settings began: a live change of the batch size, the order
    or the pinned datapoints is a new Loader that goes on from the draws already made.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    shuffle: Shuffle = "epoch"
    overfit: int = 0
    from_step: int = 0
    from_draw: int = 0
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        n = self.dataset.n_examples
        if self.overfit > n:
            raise DataError(f"data.overfit = {self.overfit}: the training part has {n} datapoints")
        if self.overfit == 0 and self.batch_size > n:
            raise DataError(f"train.batch_size = {self.batch_size}: the training part has {n} examples")
        if self.drawn * self.dataset.length > MOST_TOKENS:
            raise DataError(
                f"train.batch_size = {self.batch_size}: {self.drawn:,} examples of {self.dataset.length:,} tokens are "
                f"too many at once; allowed here is a batch of {max(1, MOST_TOKENS // self.dataset.length):,}"
            )

    @property
    def order(self) -> Order:
        return Order(self.shuffle, self.seed, self.overfit or self.dataset.n_examples)

    @property
    def drawn(self) -> int:
        """Examples a step, all shares together: the batch size, or fewer when fewer datapoints are pinned."""
        return min(self.batch_size, self.overfit) if self.overfit else self.batch_size

    def draw_at(self, step: int) -> int:
        """The number of examples drawn before `step`. Raises ValueError before `from_step`."""
        if step < self.from_step:
            raise ValueError(f"step {step} is before step {self.from_step}, where these settings began")
        return self.from_draw + (step - self.from_step) * self.drawn

    def epoch_at(self, step: int) -> int:
        return self.order.epoch_of(self.draw_at(step))

    def drawn_between(self, first: int, last: int) -> Ids:
        """The ids of the examples that steps `first` … `last` draw, in order."""
        begin = self.draw_at(first)
        return self.order.run(begin, self.draw_at(last) + self.drawn - begin)

    def batch(self, step: int) -> Batch:
        """The batch of `step`. Pure: the same settings and step give the same arrays."""
        first = self.draw_at(step)
        order = self.order
        rank, ranks = self.share
        ids = self.drawn_between(step, step)[rank::ranks]
        x, y = self.dataset.examples(ids)
        epoch, position = divmod(first, order.n)
        return Batch(step, x, y, ids, self.dataset.offsets(ids), epoch, position, order)

    def changed(self, step: int, **settings: Any) -> Self:
        """These settings changed from `step` on (batch_size, shuffle, overfit).

        When the number of datapoints changes, the draws start anew at the next epoch of the new count.
        """
        new = replace(self, **settings)
        draw = self.draw_at(step)
        if new.order.n != self.order.n:
            draw = -(-draw // self.order.n) * new.order.n
        return replace(new, from_step=step, from_draw=draw)
