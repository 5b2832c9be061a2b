"""The mean of the losses of an evaluation: over its batches, rows or targets, as the script's own variables show."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from torch import Tensor

MAX_WAITING = 64
"""Losses kept as tensors before they are read: an evaluation may take thousands of batches."""
SAME = 1e-6
"""Relative difference up to which a number of the script is a mean of ours: scripts may add in float32."""


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

    def add(self, loss: BatchLoss) -> None:
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

    def mean(self, numbers: Callable[[], Iterable[float]]) -> float:
        """Return the mean that is among the numbers of the script.

        Without one it is the mean over batches, or of sums the loss of a target.
        """
        by_rows = self._by_rows / self.n_rows if self.n_rows else math.nan
        means = [self._total / self._n, by_rows, self.per_target]
        known = [mean for mean in (reversed(means) if self.is_sum else means) if not math.isnan(mean)]
        if not known or all(_is_same(mean, known[0]) for mean in known):
            return known[0] if known else math.nan
        present = [number for number in numbers() if any(_is_same(number, mean) for mean in known)]
        return next((mean for mean in known if any(_is_same(number, mean) for number in present)), known[0])


def _is_same(number: float, mean: float) -> bool:
    return abs(number - mean) <= SAME * abs(mean)
