"""The learning-rate range test: a short training whose learning rate rises exponentially from update to update.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3; with the exponential rise, and the end
at a divergence, of fastai (Howard and Gugger 2020, "fastai: a layered API for deep learning").
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tui_lab.core.config import settings
from tui_lab.core.training.lr_suggestion import leaves_the_start
from tui_lab.core.training.setup import TrainSetup
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.errors import TrainingError

N_RATES = 100


@dataclass(frozen=True)
class RatePoint:
    """lr: of one update. loss: of the next batch, in nats per target, which is the first to show its effect."""

    lr: float
    loss: float


def rates_between(low: float, high: float, n: int) -> list[float]:
    """Return `n` rates from `low` to `high` with a constant ratio."""
    return [low * (high / low) ** (i / (n - 1)) for i in range(n)]


class RangeTest:
    """Trains the model of a setup, which is of no use afterwards: nothing is saved and no run is changed.

    points: so far. start_loss: before the first update, None before it is measured. diverged: why the test ended
    before the highest rate; empty if it did not.
    """

    def __init__(self, setup: TrainSetup, low: float, high: float, n_rates: int = N_RATES) -> None:
        self.rates = rates_between(low, high, n_rates)
        self.points: list[RatePoint] = []
        self.start_loss: float | None = None
        self.diverged = ""
        # The rate of a step is then that of `hooks.lr_factor` alone, which a planted fault may change.
        constant = {"optim.lr": 1.0, "optim.schedule": "constant", "optim.warmup_steps": 0}
        config = settings.with_values(setup.progress.config, constant)
        self._trainer = Trainer(replace(setup, progress=replace(setup.progress, config=config)))
        self._hooks = setup.hooks

    def run(self) -> Iterator[RatePoint]:
        """Train, and yield each point as it is measured."""
        previous: float | None = None
        for lr in [*self.rates, self.rates[-1]]:
            try:
                loss = self._step(lr)
            except TrainingError:
                self.diverged = "the loss was no longer finite"
                return
            if previous is None:
                self.start_loss = loss
            else:
                point = RatePoint(previous, loss)
                self.points.append(point)
                yield point
                if leaves_the_start([point.loss for point in self.points]):
                    self.diverged = "the loss rose far above that at the start"
                    return
            previous = lr

    def _step(self, lr: float) -> float:
        self._trainer.hooks = replace(self._hooks, lr_factor=self._hooks.lr_factor * lr)
        loss = self._trainer.train_step().loss
        return loss if math.isfinite(loss) else math.nan
