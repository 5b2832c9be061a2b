"""The points of a learning-rate range test, and when it ends: for our trainer and for a script."""

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass

from tui_lab.core.config import settings
from tui_lab.core.training.lr_suggestion import default_range, leaves_the_start
from tui_lab.util.errors import ConfigError

N_RATES = 100


@dataclass(frozen=True)
class RateRange:
    """n_rates: how many rates, one for each update. low, high: None for those of the optimizer."""

    n_rates: int = N_RATES
    low: float | None = None
    high: float | None = None

    def bounds(self, optimizer: str) -> tuple[float, float]:
        """Return the lowest and the highest rate for an optimizer, as `default_range` names it.

        Raises ConfigError unless they rise within the bounds of a learning rate.
        """
        default_low, default_high = default_range(optimizer)
        low = default_low if self.low is None else self.low
        high = default_high if self.high is None else self.high
        largest = settings.bounds("optim.lr")[1]
        if not 0 < low < high <= largest:
            message = f"must be larger than 0 and rise: --low {low:g} --high {high:g}"
            raise ConfigError.of("invalid", message, key="--low and --high", allowed=f"0 < low < high ≤ {largest:g}")
        return low, high


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
    diverged: why the test ended before the highest rate; empty if it did not. n_possible: how many rates a script has
    updates for that ended by itself before the highest rate; 0 otherwise.
    """

    def __init__(self, low: float | None, high: float | None, n_rates: int) -> None:
        self.low = low
        self.high = high
        self.n_rates = n_rates
        self.points: list[RatePoint] = []
        self.start_loss: float | None = None
        self.diverged = ""
        self.n_possible = 0
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
