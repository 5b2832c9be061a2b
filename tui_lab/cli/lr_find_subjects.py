"""What `tui-lab lr-find` tests: a preset, config or run, or a script."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tui_lab.cli.output import say
from tui_lab.cli.script_argument import refuse_for_script, script_suggested
from tui_lab.core.training.range_points import RangePoints, RateRange
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.rate_test.rated_group import RatedGroup
from tui_lab.core.watch.rate_test.script_range_test import ScriptRangeTest
from tui_lab.text.rate_text import rate_number
from tui_lab.util.errors import ConfigError


class Subject(ABC):
    """What is tested.

    name: as on the command line. first_seed: the seed of the first test. weights: from which a test starts.
    """

    name: str
    first_seed: int
    weights: str

    @property
    @abstractmethod
    def optimizer(self) -> str:
        """Its name; empty before the first test of a script."""

    @property
    def script_lrs(self) -> Sequence[float]:
        """The rates that a script itself has in the steps of its tests."""
        return ()

    @property
    def groups(self) -> Sequence[RatedGroup]:
        """The parameter groups of a script's optimizers. The rates are those of the first one."""
        return ()

    @abstractmethod
    def prepare(self, *, silent: bool) -> None:
        """Do what is needed once, before all tests."""

    @abstractmethod
    def test(self, seed: int) -> RangePoints:
        """Return a test that has not begun."""

    @abstractmethod
    def shorten(self, n_rates: int) -> None:
        """Let further tests have `n_rates` rates, since there are no more updates."""

    @abstractmethod
    def save(self, path: Path, lr: float) -> None:
        """Write the config with a rate into a new file."""

    @abstractmethod
    def next_step(self, lr: float) -> str:
        """Return how to train with a rate."""


class ScriptSubject(Subject):
    """A script of the user, which runs unchanged but for its rate."""

    first_seed = 0
    weights = "script"

    def __init__(self, script: ScriptToRun, rates: RateRange) -> None:
        """Raises ConfigError."""
        self.name = script.target.script
        self._script = script
        self._rates = rates
        self._tests: list[ScriptRangeTest] = []
        if rates.low is not None and rates.high is not None:  # Else it is known once the script's optimizer is.
            rates.bounds("")

    @property
    def optimizer(self) -> str:
        return self._tests[-1].optimizer if self._tests else ""

    @property
    def script_lrs(self) -> Sequence[float]:
        return [rate for test in self._tests for rate in test.script_lrs]

    @property
    def groups(self) -> Sequence[RatedGroup]:
        return self._tests[-1].groups if self._tests else ()

    def prepare(self, *, silent: bool) -> None:
        if not silent:
            say(f"lr-find: running {self.name}; it writes no checkpoint and changes no existing file")

    def test(self, seed: int) -> RangePoints:
        test = ScriptRangeTest(self._script, self._rates, seed)
        self._tests.append(test)
        return test

    def shorten(self, n_rates: int) -> None:
        self._tests.pop()
        self._rates = replace(self._rates, n_rates=n_rates)

    def save(self, path: Path, lr: float) -> None:
        raise ConfigError.of("conflict", "a script has no config", key="--save", value=str(path))

    def next_step(self, lr: float) -> str:
        rates = self.script_lrs
        low = rate_number(min(rates))
        high = rate_number(max(rates))
        own = low if low == high else f"{low} to {high}"
        return (
            f"the suggestion is for the first parameter group, {rate_number(lr)}; the script itself uses {own} here\n"
            "set it in the script (for a schedule, its peak); in the app, L and H change it"
        )


def subject_of(
    source: str,
    script: ScriptToRun | None,
    rates: RateRange,
    overrides: Sequence[str],
    *,
    initial_weights: bool,
    only_for_configs: Mapping[str, bool],
) -> Subject:
    """Return what the command line names. script: instead of `source`.

    only_for_configs: the options that a script does not have, and whether each is given. Raises a LabError.
    """
    if script is None:
        return _config_subject(source, overrides, rates, initial_weights=initial_weights)
    refuse_for_script(only_for_configs)
    return ScriptSubject(script, rates)


def _config_subject(source: str, overrides: Sequence[str], rates: RateRange, *, initial_weights: bool) -> Subject:
    """Return a preset, config or run of our trainer. Raises a LabError, which names the script that may be meant."""
    from tui_lab.cli.lr_find_config import ConfigSubject  # Imports torch, which a script does not need here.

    with script_suggested(source):
        return ConfigSubject(source, overrides, rates, initial_weights=initial_weights)
