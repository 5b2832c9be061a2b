"""Run the doctor in a thread while a model trains."""

import threading
from collections.abc import Callable

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import CheckStarted, Diagnosed, DiagnosisFailed, DoctorMessage
from tui_lab.core.config.script import RunConfig
from tui_lab.core.doctor.findings import Report
from tui_lab.util.errors import ConfigError, DataError, RunError

Examine = Callable[[RunConfig, Callable[[str], None]], Report]
"""Diagnose a config, or the script of a recorded run; call the function with the name of each check."""


class _Stopped(Exception):
    """Raised into the examination at its next check."""


class DoctorThread:
    """Diagnose one config or script at a time; `drain` returns the messages."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._buffer = Buffer[DoctorMessage]()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._current_check = ""

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, config: RunConfig) -> None:
        """Start to diagnose `config`, unless a diagnosis is under way."""
        if not self.busy:
            self._thread = threading.Thread(target=self._work, args=(config,), name="doctor", daemon=True)
            self._thread.start()

    def show(self, config: RunConfig, report: Report) -> None:
        """Return an earlier report with the next `drain`."""
        self._buffer.put(Diagnosed(config, report))

    def stop(self) -> None:
        """End the diagnosis under way and wait for it, so that no child process is left."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def drain(self) -> list[DoctorMessage]:
        return self._buffer.drain()

    def _check_started(self, name: str) -> None:
        if self._stopped.is_set():
            raise _Stopped
        if name != self._current_check:
            self._current_check = name
            self._buffer.put(CheckStarted(name))

    def _work(self, config: RunConfig) -> None:
        try:
            self._buffer.put(Diagnosed(config, self._examine(config, self._check_started)))
        except _Stopped:
            return
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(DiagnosisFailed(str(error)))
        except Exception as error:
            self._buffer.put(DiagnosisFailed(f"the doctor failed: {error!r}"))
