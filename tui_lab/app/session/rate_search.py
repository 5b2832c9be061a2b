"""A learning-rate range test in a child process: torch's generator and the CPU's threads are those of the run here.

The config of a run of our trainer is tested by `tui-lab lr-find`, the script of a recorded run in its own process.
"""

import json
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tui_lab.app.session.buffer import Buffer
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.watch.rate_test.script_range_test import ScriptRangeTest
from tui_lab.core.watch.recorded_script import recorded_script
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import ConfigError, LabError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LONGEST_ERROR = 500


@dataclass(frozen=True)
class Measured:
    """The loss of the batch after an update with a rate."""

    seed: int
    lr: float
    loss: float


@dataclass(frozen=True)
class Ended:
    """The test is over. diverged: why before its highest rate. error: why there is no result."""

    diverged: str = ""
    error: str = ""


RateMessage = Measured | Ended


class RateSearch(Protocol):
    """Makes one test at a time; the app calls every method from its own thread."""

    def start(self, seed: int) -> None:
        """Begin a test, and end the one before."""
        ...

    def drain(self) -> Sequence[RateMessage]:
        """Return the messages since the last call, in order."""
        ...

    def close(self) -> None:
        """End the test."""
        ...


class ChildRateSearch:
    """Runs `tui-lab lr-find --json` on a config. one_thread: because a run trains at the same time."""

    def __init__(self, config: Config, *, one_thread: bool) -> None:
        self._config = config
        self._one_thread = one_thread
        self._buffer = Buffer[RateMessage]()
        self._child: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self, seed: int) -> None:
        self.close()
        self._buffer = Buffer[RateMessage]()
        config = settings.changed(self._config, "train.seed", seed)
        self._thread = threading.Thread(target=self._work, args=(config, self._buffer), name="rates", daemon=True)
        self._thread.start()

    def drain(self) -> Sequence[RateMessage]:
        return self._buffer.drain()

    def close(self) -> None:
        child = self._child
        if child is not None and child.poll() is None:
            child.kill()
        if self._thread is not None:
            self._thread.join()

    def _work(self, config: Config, buffer: Buffer[RateMessage]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "config.toml"
            file.write_text(settings.to_toml(config), "utf-8")
            with (Path(folder) / "stderr").open("w+", encoding="utf-8", errors="replace") as errors:
                self._child = child = subprocess.Popen(
                    python_module("tui_lab", "lr-find", str(file), "--json"),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,  # Ctrl+C in the terminal is for the app.
                    text=True,
                    env=child_environment(**(ONE_THREAD if self._one_thread else {})),
                )
                assert child.stdout is not None
                ended = None
                with child:  # Closes its pipe and waits for it.
                    for line in child.stdout:
                        ended = _pass_on(line, buffer) or ended
                errors.seek(0)
                message = errors.read()[-LONGEST_ERROR:].strip().removeprefix("tui-lab: ")
        buffer.put(ended or Ended(error=message or f"its process ended with code {child.returncode}"))


class ScriptRateSearch:
    """Runs the script of a recorded run. one_thread: because a run trains at the same time."""

    def __init__(self, config: ScriptConfig, *, one_thread: bool) -> None:
        self._config = config
        self._one_thread = one_thread
        self._buffer = Buffer[RateMessage]()
        self._test: ScriptRangeTest | None = None
        self._thread: threading.Thread | None = None

    def start(self, seed: int) -> None:
        self.close()
        self._buffer = Buffer[RateMessage]()
        try:
            script = recorded_script(self._config)
        except ConfigError as error:
            self._buffer.put(Ended(error=str(error)))
            return
        variables = {**script.variables, **(ONE_THREAD if self._one_thread else {})}
        test = ScriptRangeTest(script.target, seed=seed, folder=script.folder, variables=variables)
        self._test = test
        self._thread = threading.Thread(target=_test_script, args=(test, seed, self._buffer), name="rates", daemon=True)
        self._thread.start()

    def drain(self) -> Sequence[RateMessage]:
        return self._buffer.drain()

    def close(self) -> None:
        if self._test is not None:
            self._test.stop()
        if self._thread is not None:
            self._thread.join()


def _test_script(test: ScriptRangeTest, seed: int, buffer: Buffer[RateMessage]) -> None:
    try:
        for point in test.run():
            buffer.put(Measured(seed, point.lr, point.loss))
    except (LabError, OSError) as error:
        buffer.put(Ended(error=str(error)))
        return
    buffer.put(Ended(diverged=test.diverged))


def _pass_on(line: str, buffer: Buffer[RateMessage]) -> Ended | None:
    """Put the point of a line into the buffer, or return the end."""
    try:
        record = json.loads(line)
    except ValueError:  # The process was killed while it wrote this line.
        return None
    if record["event"] == "rate":
        buffer.put(Measured(record["seed"], float(record["lr"]), float(record["loss"])))
        return None
    return Ended(diverged=record["tests"][-1]["diverged"])
