"""Hashes of the rows that a loop trains on and evaluates."""

import sys

from torch import Tensor

from tui_lab.core.watch.data_parts import data_part, is_training
from tui_lab.core.watch.row_memory import RowHasher


class RowHashes:
    """of_evaluations: the rows of all evaluations. of_training_part: those of evaluations of the training part."""

    def __init__(self) -> None:
        self.of_evaluations: set[int] = set()
        self.of_training_part: set[int] = set()
        self._hasher = RowHasher()

    def evaluated(self, x: Tensor | None) -> None:
        """The model was called with `x` without gradients; the names in the calling functions tell the part."""
        hashes = self.hashes(x)
        self.of_evaluations.update(hashes)
        if is_training(data_part(sys._getframe(1)).name):
            self.of_training_part.update(hashes)

    def hashes(self, x: Tensor | None) -> list[int]:
        """Return the hash of each row of `x`; none without rows."""
        if x is None or x.dim() == 0 or x.numel() == 0:
            return []
        hashes: list[int] = self._hasher.hashes(x).tolist()
        return hashes
