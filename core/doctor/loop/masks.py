"""Keeps masks of a loop's first batches that the model does not get."""

from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.observed import BatchMask
from tui_lab.core.doctor.program.nested import tensors_of

MAX_MASKS = 2
MAX_ELEMENTS = 2**20


class MaskWatch:
    """Compares the tensors of each batch with what the model is called with, until there are MAX_MASKS masks."""

    def __init__(self) -> None:
        self.masks: list[BatchMask] = []
        self._batch: list[Tensor] = []

    def fetched(self, batch: Any) -> None:
        """A DataLoader gave a batch."""
        if len(self.masks) < MAX_MASKS:
            self._batch = [t for t in tensors_of(batch) if t.dim() == 2 and t.numel() <= MAX_ELEMENTS]

    def called(self, x: Tensor | None, arguments: Any) -> None:
        """The model was called with ids x among its arguments, for training."""
        batch = self._batch
        self._batch = []
        if x is None or x.dim() != 2 or x.is_floating_point():
            return
        rows, length = x.shape
        passed = list(tensors_of(arguments))
        for tensor in batch:
            if len(tensor) != rows or tensor.shape[1] not in (length, length + 1) or not _is_mask(tensor):
                continue
            if not any(_equal(tensor, other) for other in passed):
                self.masks.append(BatchMask(x.detach().cpu().clone(), tensor.detach().cpu().bool()))


def _is_mask(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all())


def _equal(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and torch.equal(tensor.float().cpu(), other.float().cpu())
