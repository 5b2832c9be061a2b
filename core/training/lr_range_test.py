"""The learning-rate range test: a short training whose learning rate rises exponentially from update to update.

Smith 2017, "Cyclical learning rates for training neural networks", section 3.3; with the exponential rise, and the end
at a divergence, of fastai (Howard and Gugger 2020, "fastai: a layered API for deep learning").
"""

import math
from collections.abc import Generator
from dataclasses import replace

from tui_lab.core.config import settings
from tui_lab.core.training.range_points import N_RATES, RangePoints, RatePoint, rates_between
from tui_lab.core.training.setup import TrainSetup
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.errors import TrainingError


class RangeTest(RangePoints):
    """Trains the model of a setup, which is of no use afterwards: nothing is saved and no run is changed."""

    def __init__(self, setup: TrainSetup, low: float, high: float, n_rates: int = N_RATES) -> None:
        super().__init__(low, high, n_rates)
        self.rates = rates_between(low, high, n_rates)
        # The rate of a step is then that of `hooks.lr_factor` alone, which a planted fault may change.
        constant = {"optim.lr": 1.0, "optim.schedule": "constant", "optim.warmup_steps": 0}
        config = settings.with_values(setup.progress.config, constant)
        self._trainer = Trainer(replace(setup, progress=replace(setup.progress, config=config)))
        self._hooks = setup.hooks

    def run(self) -> Generator[RatePoint]:
        for lr in [*self.rates, self.rates[-1]]:
            point = self.add(lr, self._step(lr))
            if point is not None:
                yield point
            if self.diverged:
                return

    def _step(self, lr: float) -> float:
        """Make an update; return the loss before it, NaN where training fails since it is not finite."""
        self._trainer.hooks = replace(self._hooks, lr_factor=self._hooks.lr_factor * lr)
        try:
            return self._trainer.train_step().loss
        except TrainingError:
            return math.nan
