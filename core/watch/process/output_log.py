"""output.log of a watched script: a copy of what it prints, bounded in size.

The copy is taken below sys.stdout and sys.stderr, where Python hands whole blocks to the operating system; the streams
themselves stay. A pipe in place of the file descriptors would also catch what C code and child processes print, but
then the script would no longer write to its terminal or file: isatty, buffering, the order of stdout and stderr, and
what is left after a crash would change. A pseudo terminal would change the window size and signals. So only what this
process prints through Python is copied. A script in the background writes to output.log itself, which has everything.
"""

import _thread
import contextlib
import io
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_BYTES = 2**20
LAST_BYTES = 2**22
LIMIT = 2**24
"""A file that grows beyond this is cut: its first and last bytes stay, and a line between them says what is missing."""
BYTES_PER_SECOND = 2**20
BYTES_OF_A_WRITE = 2**12
"""What a write counts for in addition to its bytes.

A script that prints more than this in a second is not slowed down by the copy: the rest of the second waits in memory,
at most twice this size of it, the last part."""
_LONGEST_LINE = 2**16


class OutputLog:
    """Copies what this process prints to `path`, unless it prints there already; cuts the file when it is too long.

    Never raises once it is open: a disk that is full ends the copy.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o666)
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._allowance: float = BYTES_PER_SECOND
        self._next_second = 0.0
        self._waiting = bytearray()
        self._n_skipped = 0
        self._end_of_first = 0
        self._n_cut = 0
        # A forked process prints without a copy: it is not what is recorded.
        os.register_at_fork(after_in_child=self._stop)

    def attach(self) -> None:
        """Copy what sys.stdout and sys.stderr write from now on."""
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            # Anything else is not what Python opens for a program.
            if type(stream) is io.TextIOWrapper:
                with contextlib.suppress(OSError, ValueError):
                    self._attach(name, stream)

    def end(self) -> None:
        """Write what waits; from now on every output is copied at once."""
        if self._timer is not None:
            self._timer.cancel()
        self._begin_second(math.inf)

    def _attach(self, name: str, stream: io.TextIOWrapper) -> None:
        stream.flush()
        descriptor = stream.fileno()
        is_copy = not os.path.sameopenfile(descriptor, self._file)
        file = _CopiedFile(descriptor, self.add if is_copy else self.look, stream.name)
        if isinstance(stream.buffer, io.BufferedWriter):
            # A new TextIOWrapper over a subclass of FileIO would take 25% longer for each line that is printed.
            file.replaced = stream.buffer.raw
            stream.buffer.__init__(file, _block_size(file))  # type: ignore[misc]
        elif isinstance(stream.buffer, io.FileIO):  # python -u
            unbuffered = _unbuffered_like(stream, file)
            setattr(sys, name, unbuffered)
            setattr(sys, f"__{name}__", unbuffered)

    def add(self, data: bytes | memoryview) -> None:
        """Copy what has just been printed."""
        if self._allowance > 0:
            self._add_now(data)
            return
        waiting = self._waiting
        waiting += data
        if len(waiting) > 2 * BYTES_PER_SECOND:
            del waiting[:BYTES_PER_SECOND]
            self._n_skipped += BYTES_PER_SECOND

    def look(self, data: bytes | memoryview) -> None:
        """Cut the file if it is too long, without a copy of `data`."""
        now = time.monotonic()
        if now >= self._next_second:
            self._next_second = now + 1
            self._begin_second(0.0)

    def _add_now(self, data: bytes | memoryview) -> None:
        now = time.monotonic()
        if now >= self._next_second:
            self._next_second = now + 1
            self._begin_second(BYTES_PER_SECOND)
        elif self._waiting:
            self._write_waiting()
        self._append(data)
        self._allowance -= len(data) + BYTES_OF_A_WRITE
        if self._allowance <= 0:
            self._begin_second_later()

    def _begin_second_later(self) -> None:
        """In a thread: the script may print nothing more for long."""
        delay = max(0.0, self._next_second - time.monotonic())
        self._timer = threading.Timer(delay, self._second_has_begun)
        self._timer.daemon = True
        try:
            self._timer.start()
        except RuntimeError:  # The interpreter is shutting down.
            self._begin_second(math.inf)

    def _second_has_begun(self) -> None:
        self._next_second = time.monotonic() + 1
        self._begin_second(BYTES_PER_SECOND)
        self._timer = None

    def _begin_second(self, allowance: float) -> None:
        self._write_waiting()
        # Where another thread, or the code that a signal handler interrupts, cuts the file already, this need not wait.
        if self._file >= 0 and self._lock.acquire(blocking=False):
            try:
                if os.fstat(self._file).st_size > LIMIT:
                    self._cut()
            except OSError:
                self._stop()
            finally:
                self._lock.release()
        self._allowance = max(self._allowance, allowance)

    def _append(self, data: bytes | memoryview) -> None:
        if self._file >= 0 and len(data):
            try:
                os.write(self._file, data)
            except OSError:
                self._stop()

    def _stop(self) -> None:
        """Copy nothing from now on, at no cost."""
        self._file = -1
        self._allowance = math.inf

    def _write_waiting(self) -> None:
        text = bytes(self._waiting)
        del self._waiting[: len(text)]  # The script may have added more.
        if self._n_skipped:
            # The gap begins and ends in the middle of a line.
            text = b"\n" + _left_out(self._n_skipped) + text
            self._n_skipped = 0
        self._append(text)

    def _cut(self) -> None:
        size = os.fstat(self._file).st_size
        if not self._end_of_first:
            block = os.pread(self._file, _LONGEST_LINE, FIRST_BYTES - _LONGEST_LINE)
            self._end_of_first = FIRST_BYTES - len(block) + (block.rfind(b"\n") + 1 or len(block))
        last = os.pread(self._file, LAST_BYTES, size - LAST_BYTES)
        last = last[last.find(b"\n") + 1 :]
        self._n_cut += size - self._end_of_first - len(last)
        os.ftruncate(self._file, self._end_of_first)
        os.write(self._file, _left_out(self._n_cut) + last)


class _CopiedFile(io.FileIO):
    """A file of which every block is passed on after it has been written. replaced: a file to be closed with it."""

    def __init__(self, descriptor: int, written: Callable[[bytes | memoryview], None], name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = name
        self.replaced: Any = None
        self._written = written
        self._write = super().write

    def write(self, data: Any) -> int:
        # Python runs signal handlers after a call. A KeyboardInterrupt here, after the write and before `return`,
        # would make the caller write the block again. Unpacking an iterator is not a call in this sense.
        (n_written,) = map(self._write, (data,))
        if not n_written:
            return n_written
        try:
            self._written(data if n_written == len(data) else memoryview(data)[:n_written])
        except KeyboardInterrupt:
            # As if the signal came now: the caller, which counts what is written, handles signals after each block.
            (_,) = map(_thread.interrupt_main, (signal.SIGINT,))
        return n_written

    def close(self) -> None:
        super().close()
        if self.replaced is not None:
            self.replaced.close()


def _unbuffered_like(stream: io.TextIOWrapper, file: _CopiedFile) -> io.TextIOWrapper:
    text = io.TextIOWrapper(
        file,
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=True,
    )
    text.mode = getattr(stream, "mode", "w")  # type: ignore[misc]
    return text


def _block_size(file: io.FileIO) -> int:
    """Return the size of the buffer that `open` chooses."""
    size = getattr(file, "_blksize", 0)
    return size if size > 1 else io.DEFAULT_BUFFER_SIZE


def _left_out(n_bytes: int) -> bytes:
    return b"[tui-lab: %d bytes of the output are left out here]\n" % n_bytes
