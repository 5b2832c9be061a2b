"""What `tui-lab lr-find` tests: a preset, config or run, or a script."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.rate_text import rate_number, run_command
from tui_lab.cli.output import say
from tui_lab.cli.progress import preparing
from tui_lab.cli.script_argument import script_named
from tui_lab.core.config import settings
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.unrecorded import Source, read_source, set_up_source
from tui_lab.core.training.lr_range_test import RangeTest
from tui_lab.core.training.lr_suggestion import default_range
from tui_lab.core.training.range_points import RangePoints
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.watch.rate_test.script_range_test import ScriptRangeTest
from tui_lab.core.watch.recorded_script import RecordedScript, recorded_script
from tui_lab.core.watch.script_process import Target
from tui_lab.data.dataset import Task
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, LabError


@dataclass(frozen=True)
class Range:
    """low, high: None for those of the optimizer. n_rates: the updates, one for each rate."""

    low: float | None
    high: float | None
    n_rates: int


class Subject(ABC):
    """What is tested.

    name: as on the command line. first_seed: the seed of the first test. optimizer: its name, empty before the first
    test of a script. weights: from which a test starts.
    """

    name: str
    first_seed: int
    optimizer: str
    weights: str
    script_lrs: Sequence[float] = ()
    """The rates that a script itself has in the steps of its tests."""

    @abstractmethod
    def prepare(self, *, silent: bool) -> None:
        """Do what is needed once, before all tests."""

    @abstractmethod
    def test(self, seed: int) -> RangePoints:
        """Return a test that has not begun."""

    @abstractmethod
    def ended(self, test: RangePoints) -> None:
        """Take what a test has shown besides its points."""

    @abstractmethod
    def save(self, path: Path, lr: float) -> None:
        """Write the config with a rate into a new file."""

    @abstractmethod
    def next_step(self, lr: float) -> str:
        """Return how to train with a rate."""


class ConfigSubject(Subject):
    """A preset, a config file, or a run with its newest checkpoint."""

    def __init__(self, source: str, overrides: Sequence[str], rates: Range, *, initial_weights: bool) -> None:
        """Raises ConfigError or RunError."""
        self.name = source
        self._overrides = overrides
        self._source: Source = read_source(source, overrides, initial_weights=initial_weights)
        self.first_seed = self._source.config.train.seed
        self.optimizer = self._source.config.optim.name
        checkpoint = self._source.checkpoint
        self.weights = "initial" if checkpoint is None else f"step {checkpoint.progress.step}"
        default_low, default_high = default_range(self.optimizer)
        self._low = default_low if rates.low is None else rates.low
        self._high = default_high if rates.high is None else rates.high
        self._n_rates = rates.n_rates
        check_range(self._low, self._high)
        self._task: Task | None = None

    def prepare(self, *, silent: bool) -> None:
        with preparing(silent=silent) as report:
            self._task = build_task(self._source.config, report)

    def test(self, seed: int) -> RangePoints:
        assert self._task is not None, "prepare() comes first"
        return RangeTest(set_up_source(self._source.with_seed(seed), self._task), self._low, self._high, self._n_rates)

    def ended(self, test: RangePoints) -> None:
        pass

    def save(self, path: Path, lr: float) -> None:
        files.write_text(path, settings.to_toml(settings.changed(self._source.config, "optim.lr", lr)))

    def next_step(self, lr: float) -> str:
        if self._source.run is not None:
            return f"in the app, L and H double and halve the rate of a run; or fork it: tui-lab app {self.name}"
        return f"train with it: {run_command(self.name, self._overrides, lr)}"


class ScriptSubject(Subject):
    """A script of the user, which runs unchanged but for its rate."""

    first_seed = 0
    weights = "script"

    def __init__(
        self, target: Target, rates: Range, folder: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        """folder, variables: as in ScriptRangeTest. Raises ConfigError."""
        self.name = target.script
        self.optimizer = ""
        self._target = target
        self._folder = folder
        self._variables = variables
        self._range = rates
        if rates.low is not None or rates.high is not None:
            # What is missing is known once the script's optimizer is.
            check_range(1e-4 if rates.low is None else rates.low, 100.0 if rates.high is None else rates.high)

    def prepare(self, *, silent: bool) -> None:
        if not silent:
            say(f"lr-find: running {self.name}; it writes no checkpoint and changes no existing file")

    def test(self, seed: int) -> RangePoints:
        rates = self._range
        return ScriptRangeTest(
            self._target, rates.low, rates.high, rates.n_rates, seed, folder=self._folder, variables=self._variables
        )

    def ended(self, test: RangePoints) -> None:
        assert isinstance(test, ScriptRangeTest)
        self.optimizer = test.optimizer
        self.script_lrs = [*self.script_lrs, *test.script_lrs]

    def save(self, path: Path, lr: float) -> None:
        raise ConfigError.of("conflict", "a script has no config", key="--save", value=str(path))

    def next_step(self, lr: float) -> str:
        low = rate_number(min(self.script_lrs))
        high = rate_number(max(self.script_lrs))
        own = low if low == high else f"{low} to {high}"
        return (
            f"the script itself has {own} in these steps; set its rate in the script, of a schedule the peak, or try "
            "it in the app, where L and H double and halve it"
        )


def subject_of(
    source: str,
    target: Target | None,
    rates: Range,
    overrides: Sequence[str],
    *,
    initial_weights: bool,
    only_for_configs: Sequence[str],
) -> Subject:
    """Return what the command line names. target: a script, instead of `source`.

    only_for_configs: the options that were given and that a script does not have. Raises a LabError.
    """
    script = _recorded(source) if target is None else RecordedScript(target)
    if script is None:
        return _config_subject(source, overrides, rates, initial_weights=initial_weights)
    if only_for_configs:
        message = "needs a preset or config: a script has no settings"
        raise ConfigError.of("conflict", message, key=only_for_configs[0])
    return ScriptSubject(script.target, rates, script.folder, script.variables)


def _recorded(source: str) -> RecordedScript | None:
    """Return the script of the run `source`; None if it is anything else. Raises ConfigError."""
    if source in settings.presets() or settings.is_file(Path(source)):
        return None
    try:
        config = runs.find(source).config()
    except LabError:
        return None
    return recorded_script(config) if isinstance(config, ScriptConfig) else None


def _config_subject(source: str, overrides: Sequence[str], rates: Range, *, initial_weights: bool) -> ConfigSubject:
    """Return a preset, config or run of our trainer. Raises a LabError, which names the script that may be meant."""
    try:
        return ConfigSubject(source, overrides, rates, initial_weights=initial_weights)
    except LabError as error:
        if not (script := script_named(source)):
            raise
        message = "not a preset, config file or run"
        raise ConfigError.of("unknown_name", message, value=source, suggestion=script) from error


def check_range(low: float, high: float) -> None:
    """Raise ConfigError unless the range rises within the bounds of a learning rate."""
    largest = settings.bounds("optim.lr")[1]
    if not 0 < low < high <= largest:
        message = f"must be larger than 0 and rise: --low {low:g} --high {high:g}"
        raise ConfigError.of("invalid", message, key="--low and --high", allowed=f"0 < low < high ≤ {largest:g}")
