"""The learning-rate range test of a script, which runs in a child process and is ended after the last rate."""

import subprocess
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tui_lab.core.training.range_points import RangePoints, RatePoint, RateRange
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.script_end import why_no_update
from tui_lab.core.watch.process.tried_script import tried_environment
from tui_lab.core.watch.rate_test.rated_group import RatedGroup
from tui_lab.util.child import kill_group
from tui_lab.util.errors import ConfigError
from tui_lab.util.json_lines import lines_of

_BEGIN = "tui_lab.core.watch.rate_test.child"
SHOWN_LINES = 20
"""Of the output of a script that failed."""


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
        self._rates = rates
        self._seed = seed
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False
        self._ended: dict[str, Any] | None = None
        """What the script's process wrote at its end."""

    def run(self) -> Generator[RatePoint]:
        """Run the script, and yield each point as it is measured.

        Raises ConfigError if the script makes no step, or if its rate cannot be set.
        """
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            lines = folder / "steps.jsonl"
            lines.touch()
            with (folder / "output.log").open("wb") as output:
                child = self._child = self._start(lines, output)
            try:
                if self._is_stopped:
                    return
                yield from self._points(child, lines)
            finally:
                kill_group(child)
                child.wait()
            if not self.optimizer and not self._is_stopped:
                raise self._no_step(child.returncode, folder / "output.log")

    def stop(self) -> None:
        """End the test, from another thread than that of `run`."""
        self._is_stopped = True
        if self._child is not None and self._child.poll() is None:
            kill_group(self._child)

    def _start(self, lines: Path, output: Any) -> "subprocess.Popen[bytes]":
        script = self._script
        settings = {
            "script": script.target.script,
            "folder": script.target.first_folder(script.folder),
            "out": str(lines),
            "seed": self._seed,
            "rates": asdict(self._rates),
        }
        return subprocess.Popen(
            script.target.command_line,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # So that the processes it starts are killed with it.
            cwd=script.folder,
            env=tried_environment(settings, _BEGIN) | dict(script.variables),
        )

    def _points(self, child: "subprocess.Popen[bytes]", lines: Path) -> Iterator[RatePoint]:
        """Yield the points until the test ends or the script does."""
        for record in lines_of(child, lines):
            match record:
                case {"script": {"optimizer": optimizer, "low": low, "high": high}}:
                    self.optimizer = optimizer
                    self.low = low
                    self.high = high
                case {"groups": groups}:
                    self.groups = tuple(RatedGroup(**group) for group in groups)
                case {"failed": why}:
                    raise ConfigError.of("user_code", str(why), value=self._script.target.script)
                case {"ended": ended}:
                    self._ended = ended
                case {"step": {"lr": lr, "loss": loss, "script_lr": script_lr}}:
                    self.script_lrs.append(script_lr)
                    point = self.add(lr, float("nan") if loss is None else loss)
                    if point is not None:
                        yield point
                    if self.diverged:
                        return
        n = len(self.points)
        if n < self.n_rates:
            error = "" if self._ended is None else self._ended["error"]
            how = f": {error}" if error else ""
            self.n_possible = 0 if error else n
            self.diverged = f"the script ended{how}; --rates {n} tests the whole range in as many updates"

    def _no_step(self, code: int, output: Path) -> ConfigError:
        """Return why there is no point."""
        target = self._script.target
        why = why_no_update(target, "lr-find", code, self._ended)
        last = "\n".join(output.read_text("utf-8", "replace").rstrip().splitlines()[-SHOWN_LINES:])
        has_error = self._ended is not None and self._ended["error"]
        message = f"{why}; it printed last:\n{last}" if last and not has_error else why
        return ConfigError.of("user_code", message, value=target.script)
