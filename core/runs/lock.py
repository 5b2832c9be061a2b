"""One recorder a run folder: a lock of the operating system, and beside it who holds it.

The lock is the truth, for it ends with its process however that ends. The facts beside it are only for people, so stale
ones never block anybody.
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
from typing import TYPE_CHECKING

from tui_lab.util import files
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable
from tui_lab.util.strict_json import loads

# Runs are listed before anything is locked.
if TYPE_CHECKING:
    from filelock import FileLock

LOCK, HOLDER = ".lock", ".holder.json"
PATIENCE = 0.3
"""Seconds: whoever asks `in_use` holds the lock for a moment, which must not turn a recorder away."""
POLL = 0.02
LARGEST_FACTS = 2**16
"""Bytes."""


@dataclass(frozen=True)
class Holder:
    """Who records into a run folder."""

    pid: int
    host: str
    since: str
    """Local time, ISO 8601."""
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}: {self.command}" if self.pid else self.command


UNKNOWN = Holder(0, "", "", "a process that did not leave its name")


class InUse(RunError):
    """Another process, or another training of this one, records into the folder."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.folder, self.holder = folder, holder
        stop = f", or stop it (kill {holder.pid})" if holder.pid and holder.host == socket.gethostname() else ""
        super().__init__(
            f"{folder}: this run is being recorded by another ({holder}); wait for its end{stop}. "
            f"Looking is allowed meanwhile: tui-lab runs show, generate and app {shlex.quote(str(folder))}"
        )


class Lock:
    """A folder that this process records into, until `release` or the process's end."""

    def __init__(self, folder: Path, lock: "FileLock") -> None:
        self.folder, self._lock = folder, lock

    def release(self) -> None:
        """May be called twice, and from any thread."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # Where the folder is gone, so are the facts.
                (self.folder / HOLDER).unlink()
            self._lock.release()


def take(folder: Path) -> Lock:
    """Become the one recorder of `folder`, which exists. Raises InUse, or RunError where nothing can be written."""
    for name in (LOCK, HOLDER):
        if (folder / name).is_symlink():
            raise RunError(f"{folder / name}: it is a link, and a run is written only within its own folder; remove it")
    try:
        lock = _acquired(folder, PATIENCE)
        if lock is None:
            raise InUse(folder, _facts(folder))
        held = Lock(folder, lock)
        try:
            files.write_text(folder / HOLDER, json.dumps(asdict(_ourselves())))
        except OSError:
            held.release()
            raise
    except OSError as error:
        raise RunError(f"{folder}: nothing can be written here: {error.strerror or error}") from error
    return held


def in_use(folder: Path) -> Holder | None:
    """Who records into `folder` now, or None. Changes nothing there."""
    if not (folder / LOCK).is_file():
        return None
    try:
        lock = _acquired(folder, 0.0)
    except OSError:  # A folder that we may not write: whoever looks at it disturbs nobody.
        return None
    if lock is None:
        return _facts(folder)
    lock.release()
    return None


def _acquired(folder: Path, patience: float) -> "FileLock | None":
    from filelock import FileLock, Timeout

    # Not per thread: the app takes it in one and may release it in another.
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=POLL)
    except Timeout:
        return None
    return lock


def _facts(folder: Path) -> Holder:
    """What the holder wrote of itself, made safe to show."""
    try:
        found = loads(files.read_text(folder / HOLDER, LARGEST_FACTS))
        words = (printable(str(found[key])).replace("\n", " ")[:200] for key in ("host", "since", "command"))
        return Holder(int(found["pid"]), *words)
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


def _ourselves() -> Holder:
    program = "tui-lab" if Path(sys.argv[0]).name in ("__main__.py", "tui-lab") else Path(sys.argv[0]).name
    since = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return Holder(os.getpid(), socket.gethostname(), since, shlex.join([program, *sys.argv[1:]]))
