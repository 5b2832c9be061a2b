"""What a loop's loss functions compare with: enough to know what a constant prediction would reach."""

import math
from typing import Any

import torch
from torch import Tensor

MAX_CALLS = 128
MAX_CLASSES = 1_000_000
CLASSES = ("cross_entropy", "nll_loss")
UNIT_VALUES = ("binary_cross_entropy", "binary_cross_entropy_with_logits")


class TargetCounts:
    """Counts the targets of one of torch's loss functions; of several different ones, nothing is known."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._n_calls = 0
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._n = 0
        self._sum = 0.0
        self._squares = 0.0

    def add_other(self, name: str) -> None:
        """Note that another loss function was called, whose targets are not counted."""
        self._names.add(name)

    def add(self, name: str, targets: Tensor, options: dict[str, Any]) -> None:
        """Add the targets of one call, of the first MAX_CALLS."""
        self._names.add(name)
        self._n_calls += 1
        if self._n_calls > MAX_CALLS:
            return
        if name in CLASSES and not targets.is_floating_point():
            counted = targets.detach()[targets != options.get("ignore_index", -100)].flatten()
            counts = torch.bincount(counted).cpu()
            if len(counts) > MAX_CLASSES:
                self._names.add("too many classes")
                return
            n = max(len(counts), len(self._counts))
            self._counts = _padded(self._counts, n) + _padded(counts, n)
        elif targets.is_floating_point():
            values = targets.detach().double()
            self._n += values.numel()
            self._sum += float(values.sum())
            self._squares += float(values.square().sum())

    @property
    def constant_loss(self) -> float | None:
        """The lowest mean loss of a model that ignores its input; None if it is unknown."""
        if len(self._names) != 1:
            return None
        (name,) = self._names
        if name in CLASSES and int(self._counts.sum()):
            share = self._counts[self._counts > 0].double() / int(self._counts.sum())
            return float(-(share * share.log()).sum())
        if not self._n:
            return None
        mean = self._sum / self._n
        if name in UNIT_VALUES and 0 < mean < 1:
            return -mean * math.log(mean) - (1 - mean) * math.log(1 - mean)
        return max(0.0, self._squares / self._n - mean**2) if name == "mse_loss" else None


def _padded(counts: Tensor, n: int) -> Tensor:
    return torch.nn.functional.pad(counts, (0, n - len(counts)))
