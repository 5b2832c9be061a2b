"""Trials in processes of this machine: started as long as there is something to train, and told to save at the end."""

import contextlib
import signal
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO

from tui_lab.core.runs.sweep.folder import Row, Sweep
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import RunError

BAD_FOLDER = 2
"""The exit code of tui_lab.sweep.worker where the sweep's folder is damaged."""
DEATHS = 2
"""Processes that may die of a trial before it is called failed."""


class Worker:
    """One process, and the number of the trial that it has begun last."""

    def __init__(self, sweep: Sweep) -> None:
        self.trial: int | None = None
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        with _without_interrupts():
            self.process = subprocess.Popen(
                python_module("tui_lab.sweep.worker", str(sweep.path)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                env=child_environment(),
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.trial = int(line)

    def stop(self) -> None:
        """Ask it to save and end."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def close(self) -> str:
        """Once it has ended: the last line that it said on standard error."""
        self._reader.join()
        self.stop()
        assert self.process.stdout is not None
        self.process.stdout.close()
        with self._said as said:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


class LocalEngine:
    """At most `jobs` processes over one sweep."""

    def __init__(self, sweep: Sweep, jobs: int) -> None:
        self._sweep, self._jobs = sweep, jobs
        self._workers: list[Worker] = []
        self._deaths: Counter[int | None] = Counter()
        self._stopping = False

    @property
    def busy(self) -> bool:
        """Whether a process is still there."""
        return bool(self._workers)

    def tend(self, rows: Sequence[Row]) -> None:
        """Clear away processes that have ended, and start as many as there is work for. Raises RunError."""
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            self._ended(worker)
        if self._stopping:
            self.stop()
            return
        free = sum(row.state in ("waiting", "interrupted") for row in rows)
        idle = sum(worker.trial is None or self._sweep.result(worker.trial) is not None for worker in self._workers)
        while len(self._workers) < self._jobs and idle < free:
            self._workers.append(Worker(self._sweep))
            idle += 1

    def stop(self) -> None:
        """Ask all to save and end, and start no other."""
        self._stopping = True
        for worker in self._workers:
            worker.stop()

    def kill(self) -> None:
        """End all at once."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait()
            worker.close()
        self._workers.clear()

    def _ended(self, worker: Worker) -> None:
        said, code = worker.close(), worker.process.returncode
        if code == 0 or self._stopping:
            return
        if code == BAD_FOLDER:
            raise RunError(said)
        ended = worker.trial is None or self._sweep.result(worker.trial) is not None
        number = None if ended else worker.trial
        self._deaths[number] += 1
        if self._deaths[number] < DEATHS:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        words = f"its process {how}, {DEATHS} times" + (f": {said}" if said else "")
        if number is None:
            raise RunError(f"{self._sweep.path}: no trial can be trained: a process for it {how}: {said}")
        from tui_lab.core.runs.sweep import study as studies

        with studies.opened(self._sweep) as study:
            study.give_up(number, words + (" (out of memory?)" if code == -signal.SIGKILL else ""))


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started in here ignores Ctrl-C, from its first instant on: the one that starts it says when to end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
