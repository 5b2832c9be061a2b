"""The points of a learning-rate range test, and when it ends: for our trainer and for a script."""

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass

from tui_lab.core.training.lr_suggestion import leaves_the_start

N_RATES = 100


@dataclass(frozen=True)
class RatePoint:
    """lr: of one update. loss: of the next batch, in nats per target, which is the first to show its effect."""

    lr: float
    loss: float


def rates_between(low: float, high: float, n: int) -> list[float]:
    """Return `n` rates from `low` to `high` with a constant ratio."""
    return [low * (high / low) ** (i / (n - 1)) for i in range(n)]


class RangePoints(ABC):
    """A range test, and what it has measured so far.

    low, high: its range; None before it is known. start_loss: before the first update, None before it is measured.
    diverged: why the test ended before the highest rate; empty if it did not.
    """

    def __init__(self, low: float | None, high: float | None, n_rates: int) -> None:
        self.low = low
        self.high = high
        self.n_rates = n_rates
        self.points: list[RatePoint] = []
        self.start_loss: float | None = None
        self.diverged = ""
        self._previous: float | None = None

    @abstractmethod
    def run(self) -> Generator[RatePoint]:
        """Train, and yield each point as it is measured."""

    def add(self, lr: float, loss: float) -> RatePoint | None:
        """Take the rate of an update and the loss of its batch before it; return the point that this completes.

        The loss belongs to the rate of the update before. `diverged` is set if the training has diverged.
        """
        if not math.isfinite(loss):
            self.diverged = "the loss was no longer finite"
            return None
        previous = self._previous
        self._previous = lr
        if previous is None:
            self.start_loss = loss
            return None
        point = RatePoint(previous, loss)
        self.points.append(point)
        if leaves_the_start([point.loss for point in self.points]):
            self.diverged = "the loss rose far above that at the start"
        return point
