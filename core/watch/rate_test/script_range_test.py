"""The learning-rate range test of a script, which runs in a child process and is ended after the last rate."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from tui_lab.core.training.range_points import N_RATES, RangePoints, RatePoint
from tui_lab.core.watch.script_process import Target, environment
from tui_lab.util.errors import ConfigError
from tui_lab.util.json_lines import lines_of

STARTUP = Path(os.path.abspath(str(sys.modules["tui_lab"].__file__))).parent / "cli" / "startup"
_BEGIN = "tui_lab.core.watch.rate_test.child"
SHOWN_LINES = 20
"""Of the output of a script that failed."""


class ScriptRangeTest(RangePoints):
    """Runs a script unchanged but for its learning rate. It writes no checkpoint and changes no existing file.

    low, high: None for those of the script's optimizer. seed: of all generators, for a script that sets none. folder:
    the current folder of the script; None: ours. variables: further ones of its environment.
    """

    def __init__(
        self,
        target: Target,
        low: float | None = None,
        high: float | None = None,
        n_rates: int = N_RATES,
        seed: int = 0,
        folder: str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(low, high, n_rates)
        self.optimizer = ""
        """Its class; empty before the first step."""
        self.script_lrs: list[float] = []
        """The rates that the script itself has in these steps."""
        self._target = target
        self._seed = seed
        self._folder = folder
        self._variables = variables or {}
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

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
                _end(child)
            if not self.optimizer and not self._is_stopped:
                raise self._no_step(child.returncode, folder / "output.log")

    def stop(self) -> None:
        """End the test, from another thread than that of `run`."""
        self._is_stopped = True
        if self._child is not None:
            _kill(self._child)

    def _start(self, lines: Path, output: Any) -> "subprocess.Popen[bytes]":
        settings = {
            "folder": self._target.first_folder(self._folder),
            "out": str(lines),
            "seed": self._seed,
            "n_rates": self.n_rates,
            "low": self.low,
            "high": self.high,
        }
        variables = environment(STARTUP, settings, _BEGIN)
        variables.setdefault("WANDB_MODE", "disabled")  # These updates are no run of the user's project.
        return subprocess.Popen(
            self._target.command_line,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # So that the processes it starts are killed with it.
            cwd=self._folder,
            env=variables | dict(self._variables),
        )

    def _points(self, child: "subprocess.Popen[bytes]", lines: Path) -> Iterator[RatePoint]:
        """Yield the points until the test ends or the script does."""
        error = ""
        for record in lines_of(child, lines):
            match record:
                case {"script": {"optimizer": optimizer, "low": low, "high": high}}:
                    self.optimizer = optimizer
                    self.low = low
                    self.high = high
                case {"failed": why}:
                    raise ConfigError.of("user_code", str(why), value=self._target.script)
                case {"error": text}:
                    error = str(text)
                case {"step": {"lr": lr, "loss": loss, "script_lr": script_lr}}:
                    self.script_lrs.append(script_lr)
                    point = self.add(lr, float("nan") if loss is None else loss)
                    if point is not None:
                        yield point
                    if self.diverged:
                        return
        n = len(self.points)
        if n < self.n_rates:
            how = f" with {error}" if error else ""
            self.diverged = f"the script ended{how}; --rates {n} tests the whole range in as many updates"

    def _no_step(self, code: int, output: Path) -> ConfigError:
        """Return why there is no point."""
        text = output.read_text("utf-8", "replace").rstrip()
        ended = f"it ended with exit code {code} before its first optimizer step"
        last = "\n".join(text.splitlines()[-SHOWN_LINES:])
        message = f"{ended}; it printed last:\n{last}" if last else ended
        return ConfigError.of("user_code", message, value=self._target.script)


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kill the script and all that it started, and wait for its end."""
    _kill(child)
    child.wait()


def _kill(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
