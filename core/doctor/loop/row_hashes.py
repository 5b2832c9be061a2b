"""Hashes of the rows that a loop trains on and evaluates."""

import sys
from collections.abc import Iterable

from torch import Tensor

from tui_lab.core.watch.batch.row_memory import RowHasher
from tui_lab.core.watch.code.data_parts import data_part, is_training


class RowHashes:
    """Sets of rows.

    of_evaluations: of all evaluations. of_training_part: of evaluations of the training part. evaluated_first: those
    that were evaluated before they were trained on. evaluated_later: those of them first evaluated after an update.
    """

    def __init__(self) -> None:
        self.of_evaluations: set[int] = set()
        self.of_training_part: set[int] = set()
        self.evaluated_first: set[int] = set()
        self.evaluated_later: set[int] = set()
        self._trained: set[int] = set()
        self._hasher = RowHasher()

    def trained(self, hashes: Iterable[int]) -> None:
        """The model was trained on rows."""
        self._trained.update(hashes)

    def evaluated(self, x: Tensor | None, *, after_update: bool) -> None:
        """The model was called with `x` without gradients; the names in the calling functions tell the part."""
        hashes = self.hashes(x)
        new = set(hashes) - self._trained - self.of_evaluations
        self.evaluated_first |= new
        if after_update:
            self.evaluated_later |= new
        self.of_evaluations.update(hashes)
        if is_training(data_part(sys._getframe(1)).name):
            self.of_training_part.update(hashes)

    def hashes(self, x: Tensor | None) -> list[int]:
        """Return the hash of each row of `x`; none without rows."""
        if x is None or x.dim() == 0 or x.numel() == 0:
            return []
        hashes: list[int] = self._hasher.hashes(x).tolist()
        return hashes
