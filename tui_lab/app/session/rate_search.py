"""A learning-rate range test in a child process: torch's generator and the CPU's threads are those of the run here.

The config of a run of our trainer is tested by `tui-lab lr-find`, the script of a recorded run in its own process.
"""

import json
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from tui_lab.app.session.background_work import BackgroundWork, Put
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.watch.process.recorded_script import recorded_script
from tui_lab.core.watch.rate_test.rated_group import RatedGroup
from tui_lab.core.watch.rate_test.script_range_test import ScriptRangeTest
from tui_lab.util.child import ONE_THREAD, child_environment, kill_group, python_module
from tui_lab.util.errors import ConfigError, LabError

LONGEST_ERROR = 500


@dataclass(frozen=True)
class LossAtRate:
    """The loss of the batch after an update with a rate."""

    seed: int
    lr: float
    loss: float


@dataclass(frozen=True)
class Ended:
    """The test is over.

    diverged: why before its highest rate. error: why there is no result. groups: the parameter groups of a script's
    optimizers, of which the first one has the rates.
    """

    diverged: str = ""
    error: str = ""
    groups: tuple[RatedGroup, ...] = ()


RateMessage = LossAtRate | Ended


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


class _ThreadSearch(ABC):
    """Tests in a thread. one_thread: for the test, because a run trains at the same time."""

    def __init__(self, *, one_thread: bool) -> None:
        self._variables = ONE_THREAD if one_thread else {}
        self._work = BackgroundWork[RateMessage]("rates")

    def start(self, seed: int) -> None:
        self.close()
        self._work.start(self._begin(seed))

    def drain(self) -> Sequence[RateMessage]:
        return self._work.drain()

    def close(self) -> None:
        self._stop()
        self._work.join()

    @abstractmethod
    def _begin(self, seed: int) -> Callable[[Put[RateMessage]], None]:
        """Return what the thread calls; it puts one Ended at its end."""

    @abstractmethod
    def _stop(self) -> None:
        """Let the thread end soon, if one runs."""


class ChildRateSearch(_ThreadSearch):
    """Runs `tui-lab lr-find --json` on a config."""

    def __init__(self, config: Config, *, one_thread: bool) -> None:
        super().__init__(one_thread=one_thread)
        self._config = config
        self._child: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def _begin(self, seed: int) -> Callable[[Put[RateMessage]], None]:
        self._child = None
        self._stopped = threading.Event()
        return partial(self._work_on, settings.changed(self._config, "train.seed", seed))

    def _stop(self) -> None:
        self._stopped.set()
        child = self._child
        if child is not None and child.poll() is None:
            kill_group(child)

    def _work_on(self, config: Config, put: Put[RateMessage]) -> None:
        try:
            ended = self._run_test(config, put)
        except Exception as error:
            ended = Ended(error=f"the test failed: {error!r}")
        put(ended)

    def _run_test(self, config: Config, put: Put[RateMessage]) -> Ended:
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
                    env=child_environment(**self._variables),
                )
                if self._stopped.is_set():  # Before there was a process that could be ended.
                    kill_group(child)
                assert child.stdout is not None
                ended = None
                with child:  # Closes its pipe and waits for it.
                    for line in child.stdout:
                        ended = _pass_on(line, put) or ended
                errors.seek(0)
                message = errors.read()[-LONGEST_ERROR:].strip().removeprefix("tui-lab: ")
        return ended or Ended(error=message or f"its process ended with code {child.returncode}")


class ScriptRateSearch(_ThreadSearch):
    """Runs the script of a recorded run."""

    def __init__(self, config: ScriptConfig, *, one_thread: bool) -> None:
        super().__init__(one_thread=one_thread)
        self._config = config
        self._test: ScriptRangeTest | None = None

    def _begin(self, seed: int) -> Callable[[Put[RateMessage]], None]:
        try:
            script = recorded_script(self._config)
        except ConfigError as error:
            return partial(_refuse, str(error))
        script = replace(script, variables={**script.variables, **self._variables})
        self._test = ScriptRangeTest(script, seed=seed)
        return partial(_test_script, self._test, seed)

    def _stop(self) -> None:
        if self._test is not None:
            self._test.stop()


def _refuse(why: str, put: Put[RateMessage]) -> None:
    put(Ended(error=why))


def _test_script(test: ScriptRangeTest, seed: int, put: Put[RateMessage]) -> None:
    try:
        for point in test.run():
            put(LossAtRate(seed, point.lr, point.loss))
    except (LabError, OSError) as error:
        put(Ended(error=str(error)))
    except Exception as error:
        put(Ended(error=f"the test failed: {error!r}"))
    else:
        put(Ended(diverged=test.diverged, groups=test.groups))


def _pass_on(line: str, put: Put[RateMessage]) -> Ended | None:
    """Give the app the point of a line, or return the end."""
    try:
        record = json.loads(line)
    except ValueError:  # The process was killed while it wrote this line.
        return None
    if record["event"] == "rate":
        put(LossAtRate(record["seed"], float(record["lr"]), float(record["loss"])))
        return None
    return Ended(diverged=record["tests"][-1]["diverged"])
