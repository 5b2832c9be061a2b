"""A preset, config or run as what `tui-lab lr-find` tests."""

from collections.abc import Sequence
from pathlib import Path

from tui_lab.cli.lr_find_subjects import Subject
from tui_lab.cli.progress import preparing
from tui_lab.core.config import settings
from tui_lab.core.runs.unrecorded import TrainingSource, read_source, set_up_source
from tui_lab.core.training.lr_range_test import RangeTest
from tui_lab.core.training.range_points import RangePoints, RateRange
from tui_lab.core.training.task_factory import build_task
from tui_lab.data.dataset import Task
from tui_lab.text.rate_text import run_command
from tui_lab.util import files


class ConfigSubject(Subject):
    """A preset, a config file, or a run with its newest checkpoint."""

    def __init__(self, source: str, overrides: Sequence[str], rates: RateRange, *, initial_weights: bool) -> None:
        """Raises ConfigError or RunError."""
        self.name = source
        self._overrides = overrides
        self._source: TrainingSource = read_source(source, overrides, initial_weights=initial_weights)
        self.first_seed = self._source.config.train.seed
        checkpoint = self._source.checkpoint
        self.weights = "initial" if checkpoint is None else f"step {checkpoint.progress.step}"
        self._low, self._high = rates.bounds(self.optimizer)
        self._n_rates = rates.n_rates
        self._task: Task | None = None

    @property
    def optimizer(self) -> str:
        return self._source.config.optim.name

    def prepare(self, *, silent: bool) -> None:
        with preparing(silent=silent) as report:
            self._task = build_task(self._source.config, report)

    def test(self, seed: int) -> RangePoints:
        assert self._task is not None, "prepare() comes first"
        return RangeTest(set_up_source(self._source.with_seed(seed), self._task), self._low, self._high, self._n_rates)

    def shorten(self, n_rates: int) -> None:
        raise AssertionError("a config has updates for every rate")

    def save(self, path: Path, lr: float) -> None:
        files.write_text(path, settings.to_toml(settings.changed(self._source.config, "optim.lr", lr)))

    def next_step(self, lr: float) -> str:
        if self._source.run is not None:
            return f"in the app, L and H double and halve the rate of a run; or fork it: tui-lab app {self.name}"
        return f"train with it: {run_command(self.name, self._overrides, lr)}"
