"""Trials in processes of this machine, started while there is something to train."""

import contextlib
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO

from tui_lab.core.runs.sweep.folder import Sweep, TrialRow
from tui_lab.util.child import child_environment, kill_group, python_module
from tui_lab.util.errors import RunError

BAD_FOLDER = 2
"""The exit code of tui_lab.sweep.worker if the sweep's folder is damaged."""
MAX_DEATHS = 2
"""Processes that may die while training a trial before it counts as failed."""


class Worker:
    """One process. trial: the number of the trial that it started last."""

    def __init__(self, sweep: Sweep) -> None:
        self.trial: int | None = None
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        with _ignoring_interrupts():
            self.process = subprocess.Popen(
                python_module("tui_lab.sweep.worker", str(sweep.path)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                env=child_environment(),
                start_new_session=True,  # So that the process of a script is killed with it.
            )
        self._reader = threading.Thread(target=self._read_numbers, daemon=True)
        self._reader.start()

    def _read_numbers(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.trial = int(line)

    def stop(self) -> None:
        """Request that the process saves and exits."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self) -> str:
        """Release what an exited process holds; return its last line on standard error."""
        self._reader.join()
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        with self._stderr as stderr:
            stderr.seek(0)
            lines = stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class LocalEngine:
    """At most `jobs` processes that train one sweep."""

    def __init__(self, sweep: Sweep, jobs: int) -> None:
        self._sweep = sweep
        self._jobs = jobs
        self._workers: list[Worker] = []
        self._deaths: Counter[int | None] = Counter()
        self._stopping = False

    @property
    def busy(self) -> bool:
        """Whether a process is still running."""
        return bool(self._workers)

    def tend(self, rows: Sequence[TrialRow]) -> None:
        """Remove processes that have exited, and start as many as there is work for. Raises RunError."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            self._handle_exit(worker)
        if self._stopping:
            self.stop()
            return
        free = sum(row.state in ("waiting", "interrupted") for row in rows)
        idle = sum(self._is_idle(worker) for worker in self._workers)
        while len(self._workers) < self._jobs and idle < free:
            self._workers.append(Worker(self._sweep))
            idle += 1

    def stop(self) -> None:
        """Request that all processes save and exit, and start no more."""
        self._stopping = True
        for worker in self._workers:
            worker.stop()

    def kill(self) -> None:
        """Kill all processes."""
        for worker in self._workers:
            kill_group(worker.process)
            worker.process.wait()
            worker.close()
        self._workers.clear()

    def _is_idle(self, worker: Worker) -> bool:
        """Return whether a process is about to claim a trial."""
        return worker.trial is None or self._sweep.result(worker.trial) is not None

    def _handle_exit(self, worker: Worker) -> None:
        """Count the death of a process; let its trial fail at the second one. Raises RunError."""
        last_line = worker.close()
        code = worker.process.returncode
        if code == 0 or self._stopping:
            return
        if code == BAD_FOLDER:
            raise RunError(last_line)
        number = None if self._is_idle(worker) else worker.trial
        self._deaths[number] += 1
        if self._deaths[number] < MAX_DEATHS:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        if number is None:
            message = f"no trial can be trained: the process {how}: {last_line}"
            raise RunError.of("unavailable", message, key=str(self._sweep.path))
        message = f"its process {how}, {MAX_DEATHS} times" + (f": {last_line}" if last_line else "")
        from tui_lab.core.runs.sweep import study as studies

        with studies.opened(self._sweep) as study:
            study.give_up(number, message + (" (out of memory?)" if code == -signal.SIGKILL else ""))


@contextlib.contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Let a process started in this block ignore Ctrl-C and SIGHUP from its first moment: its parent stops it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
