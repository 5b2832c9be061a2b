"""The learning-rate range test of a script, which runs in a child process and is ended after the last rate."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import Any

from tui_lab.core.training.range_points import RangePoints, RatePoint, RateRange
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.tried_run import TriedRun
from tui_lab.core.watch.rate_test.rated_group import RatedGroup
from tui_lab.util.errors import ConfigError

_BEGIN = "tui_lab.core.watch.rate_test.child"


class ScriptRangeTest(RangePoints):
    """Runs a script unchanged but for its learning rate. It writes no checkpoint and changes no existing file.

    seed: of all generators, for a script that sets none.
    """

    def __init__(self, script: ScriptToRun, rates: RateRange | None = None, seed: int = 0) -> None:
        """rates: by default those of the script's optimizer."""
        rates = rates or RateRange()
        super().__init__(rates.low, rates.high, rates.n_rates)
        self.optimizer = ""
        """Its class; empty before the first step."""
        self.script_lrs: list[float] = []
        """The rates that the script itself has in these steps."""
        self.groups: tuple[RatedGroup, ...] = ()
        """The parameter groups of its optimizers. The rates are those of the first one."""
        self._script = script
        self._run = TriedRun(script, _BEGIN, {"seed": seed, "rates": asdict(rates)})

    def run(self) -> Generator[RatePoint]:
        """Run the script, and yield each point as it is measured.

        Raises ConfigError if the script makes no step, or if its rate cannot be set.
        """
        with closing(self._run.records()) as records:
            yield from self._points(records)
        if not self.optimizer and not self._run.is_stopped:
            raise self._run.no_step("lr-find")

    def stop(self) -> None:
        """End the test, from another thread than that of `run`."""
        self._run.stop()

    def _points(self, records: Iterable[dict[str, Any]]) -> Iterator[RatePoint]:
        """Yield the points until the test ends or the script does."""
        for record in records:
            match record:
                case {"script": {"optimizer": optimizer, "low": low, "high": high}}:
                    self.optimizer = optimizer
                    self.low = low
                    self.high = high
                case {"groups": groups}:
                    self.groups = tuple(RatedGroup(**group) for group in groups)
                case {"failed": why}:
                    raise ConfigError.of("user_code", str(why), value=self._script.target.script)
                case {"step": {"lr": lr, "loss": loss, "script_lr": script_lr}}:
                    self.script_lrs.append(script_lr)
                    point = self.add(lr, float("nan") if loss is None else loss)
                    if point is not None:
                        yield point
                    if self.diverged:
                        return
        n = len(self.points)
        if n < self.n_rates:
            error = "" if self._run.ended is None else self._run.ended["error"]
            how = f": {error}" if error else ""
            self.n_possible = 0 if error else n
            self.diverged = f"the script ended{how}; --rates {n} tests the whole range in as many updates"
