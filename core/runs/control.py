"""The control channel of a run: other processes append commands to a file, and the recording process reads them.

A file rather than a socket: it needs no port, works on a network file system, and outlives any sender. Commands take
effect at the next step boundary and come back as events in the event log, so a sender needs no reply.
"""

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from tui_lab.core import commands as cmd
from tui_lab.core.runs.run_files import CONTROL
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps, loads

POLL_SECONDS = 0.05
"""How often the recording process looks for new commands. A look is one fstat, about 2 µs on a local disk."""
MAX_LINE = 4096
"""Bytes of one command. Linux appends a write of up to this size as a whole when several processes write at once."""
MAX_READ = 2**20
"""Bytes read at one look; what a sender has appended beyond it waits for the next."""


def send(folder: Path, command: cmd.Command) -> None:
    """Ask the process that records into `folder` to execute `command`.

    Raises RunError when nobody listens there or the file cannot be written, ValueError when `command` cannot be sent.
    """
    # The leading newline ends the line of a sender that was killed in the middle of one.
    line = f"\n{dumps(cmd.to_json(command))}\n".encode()
    if len(line) > MAX_LINE:
        raise RunError.of("too_large", f"a command of {len(line):,} bytes", allowed=f"at most {MAX_LINE:,}")
    path = folder / CONTROL
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise RunError.of(
            "not_found", "this run takes no commands: no process is training it", value=str(folder)
        ) from error
    except OSError as error:
        raise RunError.of("unwritable", f"commands cannot be sent: {error.strerror}", value=str(path)) from error
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise RunError.of("unwritable", "not a regular file", value=str(path))
        os.write(file, line)
    except OSError as error:
        raise RunError.of("unwritable", f"commands cannot be sent: {error.strerror}", value=str(path)) from error
    finally:
        os.close(file)


def can_send(folder: Path) -> bool:
    """Return whether the control file of `folder` exists and this user may write to it."""
    path = folder / CONTROL
    return path.is_file() and not path.is_symlink() and os.access(path, os.W_OK)


@contextlib.contextmanager
def listen(folder: Path, receive: Callable[[cmd.Command], None]) -> Iterator[None]:
    """Pass commands for the run in `folder` to `receive` meanwhile. Where no file can be created there are none."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            stack.enter_context(ControlListener(folder, receive))
        yield


class CommandLines:
    """Makes commands of the bytes of a control file.

    A line that is not a command is passed to `reject` with the reason, and skipped.
    """

    def __init__(self, reject: Callable[[str], None] = lambda reason: None) -> None:
        self._reject = reject
        self._partial = b""

    def commands(self, data: bytes) -> Iterator[cmd.Command]:
        """Yield the commands of the lines that end in `data`, the next bytes of the file."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_LINE:
            self._reject(f"a line of more than {MAX_LINE:,} bytes")
            self._partial = b""
        for line in filter(None, lines):
            try:
                command = cmd.from_json(loads(line))
            except ValueError as error:
                self._reject(str(error))
            else:
                yield command


class SentCommands:
    """What any process has asked of the process that records into `folder`, for an app that attaches later."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CONTROL
        self._offset = 0
        self._lines = CommandLines()

    def poll(self) -> list[cmd.Command]:
        """Return the commands that were sent since the last call; none where this user may not read them."""
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return []
        try:
            data = os.pread(file, MAX_READ, self._offset)
        except OSError:  # Not a regular file, or a network file system that is away for a moment.
            return []
        finally:
            os.close(file)
        self._offset += len(data)
        return list(self._lines.commands(data))


class ControlListener:
    """Reads the control file in a separate thread and passes each command on. The recording process owns one.

    Commands can be sent as soon as it exists; they are passed on from `start`, or while it is entered.

    receive: called in the listener's thread, for example a queue's `put`. A line that is not a command is passed to
    `reject` with the reason, and skipped.
    """

    def __init__(
        self,
        folder: Path,
        receive: Callable[[cmd.Command], None],
        reject: Callable[[str], None] = lambda reason: None,
        *,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Replace the control file, so that commands for an earlier process are never executed. Raises OSError."""
        self._path = folder / CONTROL
        self._receive = receive
        self._lines = CommandLines(reject)
        self._poll_seconds = poll_seconds
        self._closed = threading.Event()
        self._path.unlink(missing_ok=True)
        # Only this user may read or write it: writing here steers the run.
        flags = os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._thread = threading.Thread(target=self._listen, name="control", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Pass on the commands that have been sent, and those to come."""
        self._thread.start()

    def close(self) -> None:
        """Take no more commands."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _listen(self) -> None:
        while not self._closed.is_set():
            self.poll()
            self._closed.wait(self._poll_seconds)

    def poll(self) -> None:
        """Pass on the commands that have been appended since the last call."""
        try:
            data = os.read(self._file, MAX_READ)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.ESTALE):
                raise
            return  # A network file system that is away for a moment.
        for command in self._lines.commands(data):
            self._receive(command)
