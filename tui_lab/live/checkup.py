"""The doctor beside a training: in a process of its own, told of by messages."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from core.config import Config
from core.doctor.findings import Report
from core.errors import ConfigError, RunError
from data.errors import DataError
from tui_lab.live.buffer import Buffer


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


class CheckUp:
    """Examines one config at a time; `drain` gives Checking, Examined and NotExamined."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._buffer = Buffer()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def ask(self, config: Config) -> None:
        """Begin, unless an examination is under way."""
        if not self.busy:
            self._thread = threading.Thread(target=self._work, args=(config,), name="doctor", daemon=True)
            self._thread.start()

    def drain(self) -> list[object]:
        return self._buffer.drain()

    def _work(self, config: Config) -> None:
        try:
            report = self._examine(config, lambda name: self._buffer.put(Checking(name)))
            self._buffer.put(Examined(config, report))
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(NotExamined(str(error)))
        except Exception as error:
            self._buffer.put(NotExamined(f"the examination broke off: {error!r}"))
