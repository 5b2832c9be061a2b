"""The loader: the batch of a step, as a pure function of its settings and the step number."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tui_lab.data.dataset import Dataset
from tui_lab.data.shuffle import Order, Shuffle
from tui_lab.util.errors import DataError

Ids = npt.NDArray[np.int64]
MAX_BATCH_TOKENS = 2**24
"""Tokens of a batch, at most: with the windows it is cut from, half a GiB."""


@dataclass(frozen=True)
class Batch:
    """The data of one step. x, y: int64 [B, T]; ids: [B]; offsets: [B] in tokens or None."""

    step: int
    x: Ids
    y: Ids
    ids: Ids
    offsets: Ids | None
    epoch: int
    position: int
    """The number of the first example within its epoch."""
    order: Order
    data_epoch: int
    """The epoch without those of other examples: see `Loader`."""

    @property
    def head(self) -> tuple[int, ...]:
        """The first ids of the permutation of this epoch."""
        return self.order.head(self.epoch)


@dataclass(frozen=True)
class Loader:
    """Gives `batch(step)` for any step from `from_step` on, in any order.

    overfit: only the first `overfit` examples are drawn; 0: all of them. share: (r, n) gives the r-th of every n
    examples of each batch, the part of process r of n. from_step, from_draw: the step and the number of examples drawn
    before it where these settings start. A live change of the batch size, the order or the pinned examples is a new
    Loader that continues from the examples drawn so far.

    The number of an epoch is that of its order, and grows while a few examples are pinned, too. other_epochs: how many
    epochs were of other examples than these; epochs_of_all: how many were of all examples.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    shuffle: Shuffle = "epoch"
    overfit: int = 0
    from_step: int = 0
    from_draw: int = 0
    share: tuple[int, int] = (0, 1)
    other_epochs: int = 0
    epochs_of_all: int = 0

    def __post_init__(self) -> None:
        n = self.dataset.n_examples
        if self.overfit > n:
            raise DataError.of(
                "invalid", f"the training part has only {n} examples", key="data.overfit", value=self.overfit
            )
        if self.overfit == 0 and self.batch_size > n:
            raise DataError.of(
                "invalid", f"the training part has only {n} examples", key="train.batch_size", value=self.batch_size
            )
        if self.drawn * self.dataset.length > MAX_BATCH_TOKENS:
            raise DataError.of(
                "too_large",
                f"{self.drawn:,} examples of {self.dataset.length:,} tokens do not fit into a batch",
                key="train.batch_size",
                value=self.batch_size,
                allowed=f"at most {max(1, MAX_BATCH_TOKENS // self.dataset.length):,}",
            )

    @property
    def order(self) -> Order:
        """The order in which examples are drawn."""
        return Order(self.shuffle, self.seed, self.overfit or self.dataset.n_examples)

    @property
    def drawn(self) -> int:
        """Examples per step of all processes: the batch size, or fewer when fewer examples are pinned."""
        return min(self.batch_size, self.overfit) if self.overfit else self.batch_size

    def draw_at(self, step: int) -> int:
        """Return the number of examples drawn before `step`. Raises ValueError before `from_step`."""
        if step < self.from_step:
            raise ValueError(f"step {step} is before step {self.from_step}, where these settings start")
        return self.from_draw + (step - self.from_step) * self.drawn

    def epoch_at(self, step: int) -> int:
        """Return the epoch of the first example of `step`."""
        return self.order.epoch_of(self.draw_at(step))

    def data_epoch_at(self, step: int) -> int:
        """Return the epoch of the first example of `step`, counted without those of other examples."""
        return self.epoch_at(step) - self.other_epochs

    def drawn_between(self, first: int, last: int) -> Ids:
        """Return the ids of the examples that steps `first` … `last` draw, in order."""
        start = self.draw_at(first)
        return self.order.slice(start, self.draw_at(last) + self.drawn - start)

    def batch(self, step: int) -> Batch:
        """Return the batch of `step`. The same settings and step always give the same arrays."""
        first = self.draw_at(step)
        order = self.order
        rank, ranks = self.share
        ids = self.drawn_between(step, step)[rank::ranks]
        x, y = self.dataset.examples(ids)
        epoch, position = divmod(first, order.n)
        return Batch(step, x, y, ids, self.dataset.offsets(ids), epoch, position, order, epoch - self.other_epochs)

    def changed(self, step: int, **settings: Any) -> Self:
        """Return a loader with other settings (batch_size, shuffle, overfit) from `step` on.

        When the number of examples changes, the next draw is the start of the next epoch of the new number.
        """
        new = replace(self, **settings)
        draw = self.draw_at(step)
        if new.order.n != self.order.n:
            epoch = -(-draw // self.order.n)
            draw = epoch * new.order.n
            of_all = self.epochs_of_all if self.overfit else epoch - self.other_epochs
            new = replace(new, other_epochs=epoch - (0 if new.overfit else of_all), epochs_of_all=of_all)
        return replace(new, from_step=step, from_draw=draw)
