"""Faults of the data: a loader whose batches are wrong in the chosen ways."""

from dataclasses import dataclass, replace

import numpy as np

from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Batch, Ids, Loader
from tui_lab.data.shuffle import hash_key

DATA_FAULTS = (
    "shuffle_every_step",
    "constant_batch",
    "shifted_targets",
    "copied_targets",
    "swapped_rows",
    "unmasked_targets",
    "ignored_targets",
)


@dataclass(frozen=True)
class FaultyLoader(Loader):
    """A Loader with faults. faults: names from DATA_FAULTS."""

    faults: tuple[str, ...] = ()

    def drawn_between(self, first: int, last: int) -> Ids:
        ids = super().drawn_between(first, last)
        if "constant_batch" in self.faults:
            ids = np.zeros_like(ids)
        if "shuffle_every_step" in self.faults:
            n = self.dataset.n_examples
            steps = range(first, last + 1)
            generators = (np.random.default_rng(hash_key(self.seed, step)) for step in steps)
            ids = np.concatenate([draw.integers(0, n, self.drawn) for draw in generators])
        return ids

    def batch(self, step: int) -> Batch:
        batch = super().batch(step)
        x, y = batch.x, batch.y.copy()
        if "unmasked_targets" in self.faults:
            y[:, :-1] = np.where(y[:, :-1] == IGNORED, x[:, 1:], y[:, :-1])
        if "shifted_targets" in self.faults:
            y = np.concatenate([y[:, 1:], y[:, -1:]], axis=1)
        if "copied_targets" in self.faults:
            y = np.where(y == IGNORED, IGNORED, x)
        if "swapped_rows" in self.faults:
            n = self.dataset.n_examples
            y = self.dataset.examples((batch.ids + n // 2) % n)[1]
        if "ignored_targets" in self.faults:
            y[:, :-1] = IGNORED
        return replace(batch, y=y)
