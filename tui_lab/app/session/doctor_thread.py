"""The doctor beside a training: in a process of its own, told of by messages."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tui_lab.app.session.buffer import Buffer
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Report
from tui_lab.util.errors import ConfigError, DataError, RunError


@dataclass(frozen=True)
class Checking:
    """The check that runs now."""

    name: str


@dataclass(frozen=True)
class Examined:
    config: Config
    report: Report


@dataclass(frozen=True)
class NotExamined:
    message: str


Examine = Callable[[Config, Callable[[str], None]], Report]


class _Stopped(Exception):
    """Raised where the examination asks what to do next."""


class CheckUp:
    """Examines one config at a time; `drain` gives Checking, Examined and NotExamined."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._buffer = Buffer()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._said = ""

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def ask(self, config: Config) -> None:
        """Begin, unless an examination is under way."""
        if not self.busy:
            self._thread = threading.Thread(target=self._work, args=(config,), name="doctor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End what is under way, and wait for it: no process is left behind."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def drain(self) -> list[object]:
        return self._buffer.drain()

    def _tell(self, name: str) -> None:
        if self._stopped.is_set():
            raise _Stopped
        if name != self._said:
            self._said = name
            self._buffer.put(Checking(name))

    def _work(self, config: Config) -> None:
        try:
            self._buffer.put(Examined(config, self._examine(config, self._tell)))
        except _Stopped:
            return
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(NotExamined(str(error)))
        except Exception as error:
            self._buffer.put(NotExamined(f"the examination broke off: {error!r}"))
