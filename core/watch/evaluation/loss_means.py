"""The mean of the losses of an evaluation: over its batches, rows or targets, as the script's own variables show.

Either a variable holds the mean once the evaluation is over, or one holds the sum of the losses so far while it runs,
as in `total += loss.item() * n`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

MAX_WAITING = 64
"""Losses kept as tensors before they are read: an evaluation may take thousands of batches."""
SAME = 1e-6
"""Relative difference up to which a number of the script is a mean of ours: scripts may add in float32."""
MAX_LOOKS = 3
"""Batches of an evaluation after which the variables are searched for sums."""
Numbers = Callable[[], Iterable[float]]
Weights = Literal["batches", "rows", "targets"]


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one batch. n_targets: that count, None if unknown. is_sum: over the targets, not their mean."""

    value: Tensor
    n_rows: int
    n_targets: Tensor | int | None
    is_sum: bool = False


@dataclass
class LossMeans:
    """Adds up the losses of batches; the means are over batches as they are, by their rows, and by their targets."""

    n_rows: int = 0
    is_sum: bool = False
    _n: int = 0
    _n_targets: float = 0.0
    _total: float = 0.0
    _by_rows: float = 0.0
    _by_targets: float = 0.0
    _waiting: list[BatchLoss] = field(default_factory=list)
    _weights: Weights | None = None
    """By what the script weights the batches, if a variable shows it."""

    def add(self, loss: BatchLoss, sums: Numbers) -> None:
        """Add the loss of a batch. sums: returns numbers of the script, in which it is not contained yet."""
        n = self._n + len(self._waiting)
        if self._weights is None and 0 < n <= MAX_LOOKS and not loss.is_sum:
            self.read()
            self._weights = self._weights_of(sums())
        self._waiting.append(loss)
        self.n_rows += loss.n_rows
        self.is_sum = self.is_sum or loss.is_sum
        if len(self._waiting) >= MAX_WAITING:
            self.read()

    def read(self) -> None:
        """Wait for the values, and keep no tensor."""
        for loss in self._waiting:
            value = float(loss.value)
            n_targets = math.nan if loss.n_targets is None else float(loss.n_targets)
            self._total += value
            self._by_rows += value if loss.is_sum else value * loss.n_rows
            self._by_targets += value if loss.is_sum else value * n_targets
            self._n_targets += n_targets
        self._n += len(self._waiting)
        self._waiting.clear()

    @property
    def per_target(self) -> float:
        """The loss of a target; NaN if the number of targets is not known."""
        return self._by_targets / self._n_targets if self._n_targets else math.nan

    @property
    def weights(self) -> Weights | None:
        """By what the script weights the batches; None if no variable has shown it."""
        return self._weights

    def mean(self, numbers: Numbers, usual: Weights | None = None) -> tuple[float, bool]:
        """Return the mean that the script computes, and whether it is known which one that is.

        If not, it is the mean over batches, or of sums the loss of a target. numbers: returns those of the script.
        usual: the weights of the script's evaluations before, which count if no variable shows those of this one.
        """
        by_rows = self._by_rows / self.n_rows if self.n_rows else math.nan
        means: dict[Weights, float] = {"batches": self._total / self._n, "rows": by_rows, "targets": self.per_target}
        if self._weights is not None:
            return means[self._weights], True
        kinds = [kind for kind in (reversed(means) if self.is_sum else means) if not math.isnan(means[kind])]
        if not kinds or all(_is_same(means[kind], means[kinds[0]]) for kind in kinds):
            return means[kinds[0]] if kinds else math.nan, True
        present = [number for number in numbers() if any(_is_same(number, means[kind]) for kind in kinds)]
        matching = [kind for kind in kinds if any(_is_same(number, means[kind]) for number in present)]
        self._weights = matching[0] if matching else usual if usual in kinds else None
        return means[self._weights or kinds[0]], self._weights is not None or self.is_sum

    def _weights_of(self, sums: Iterable[float]) -> Weights | None:
        """Return the weights with which one of the numbers is the sum of the losses so far."""
        own: dict[Weights, float] = {"targets": self._by_targets, "rows": self._by_rows}
        if self._n > 1:  # A single one may also be the latest loss.
            own["batches"] = self._total
        numbers = [number for number in sums if number]
        return next((kind for kind, own_sum in own.items() if any(_is_same(n, own_sum) for n in numbers)), None)


def _is_same(number: float, mean: float) -> bool:
    return abs(number - mean) <= SAME * abs(mean)
