"""One writer per run folder: a lock of the operating system, and a JSON file that describes its holder.

The lock is authoritative: the kernel releases it when the process exits. The JSON file is only used in messages, so a
stale one has no effect.
"""

import contextlib
import json
import os
import shlex
import socket
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from tui_lab.core.runs.run_files import HOLDER, LOCK, LOCK_FILES, refuse_links
from tui_lab.util import files
from tui_lab.util.errors import Problem, RunError
from tui_lab.util.escape import printable
from tui_lab.util.lazy_adapter import LazyAdapter

# Listing runs must not import filelock.
if TYPE_CHECKING:
    from filelock import FileLock

PATIENCE = 0.3
"""Seconds to wait for the lock: `in_use` in another process holds it for a moment."""
POLL = 0.02
LARGEST_HOLDER_FILE = 2**16
"""Bytes."""


def _one_line(text: str) -> str:
    return printable(text).replace("\n", " ")[:200]


Line = Annotated[str, AfterValidator(_one_line)]
"""Text from a file, made safe to show on one line."""


@dataclass(frozen=True)
class Holder:
    """The process that writes into a run folder."""

    pid: int
    host: Line
    since: Line
    """Local time, ISO 8601."""
    command: Line

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}: {self.command}" if self.pid else self.command


UNKNOWN = Holder(0, "", "", "an unknown process")
_HOLDER: LazyAdapter[Holder] = LazyAdapter(Holder)


class InUse(RunError):
    """Another process, or another trainer in this process, writes into the folder."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.folder = folder
        self.holder = holder
        stop = f", or stop it (kill {holder.pid})" if holder.pid and holder.host == socket.gethostname() else ""
        message = (
            f"this run is in use ({holder}); wait for it to finish{stop}. "
            f"In the meantime you can use: tui-lab runs show, generate and app {shlex.quote(str(folder))}"
        )
        super().__init__(Problem(code="in_use", message=message, key=str(folder)))


class Lock:
    """The right to write into a folder, until `release` or the end of the process."""

    def __init__(self, folder: Path, lock: "FileLock") -> None:
        self.folder = folder
        self._lock = lock

    def release(self) -> None:
        """May be called twice, and from any thread."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # The folder may have been removed.
                (self.folder / HOLDER).unlink()
            self._lock.release()


def take(folder: Path) -> Lock:
    """Lock `folder`, which exists, for writing. Raises InUse, or RunError where nothing can be written."""
    refuse_links(folder, LOCK_FILES)
    try:
        file_lock = _acquired(folder, PATIENCE)
        if file_lock is None:
            raise InUse(folder, _read_holder(folder))
        lock = Lock(folder, file_lock)
        try:
            files.write_text(folder / HOLDER, json.dumps(asdict(_this_process())))
        except OSError:
            lock.release()
            raise
    except OSError as error:
        reason = error.strerror or error
        raise RunError.of("unwritable", f"this folder is not writable: {reason}", key=str(folder)) from error
    return lock


def in_use(folder: Path) -> Holder | None:
    """Return the process that writes into `folder` now, or None. Changes nothing there."""
    if not (folder / LOCK).is_file():
        return None
    try:
        with (folder / LOCK).open("rb") as file:
            lock = _acquired(folder, 0.0)
            if lock is None:
                return _read_holder(folder)
            lock.release()
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(folder / LOCK)):
                _remove_recreated(folder)
    except OSError:  # A folder that this process may only read, or that was removed meanwhile.
        pass
    return None


def _remove_recreated(folder: Path) -> None:
    """Remove the folder that filelock makes for its file if another process has removed the run meanwhile."""
    if os.listdir(folder) == [LOCK]:
        (folder / LOCK).unlink()
        folder.rmdir()


def _acquired(folder: Path, patience: float) -> "FileLock | None":
    from filelock import FileLock, Timeout

    # Not per thread: the app may acquire it in one thread and release it in another.
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=POLL)
    except Timeout:
        return None
    return lock


def _read_holder(folder: Path) -> Holder:
    try:
        return _HOLDER.validate_json(files.read_text(folder / HOLDER, LARGEST_HOLDER_FILE))
    except (OSError, ValueError):
        return UNKNOWN


def _this_process() -> Holder:
    program = "tui-lab" if Path(sys.argv[0]).name in ("__main__.py", "tui-lab") else Path(sys.argv[0]).name
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return Holder(os.getpid(), socket.gethostname(), since, shlex.join([program, *sys.argv[1:]]))
