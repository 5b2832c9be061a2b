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
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

FIRST_BYTES = 2**20
LAST_BYTES = 2**22
LIMIT = 2**24
"""A file that grows beyond this is cut: its first and last bytes stay, and a line between them says what is missing."""
BYTES_PER_SECOND = 2**20
"""A script that prints faster is not slowed down by the copy: of each second, only the first and last part is copied.

The last part is written at the next output of a later second, or at the end."""
_LONGEST_LINE = 2**16


class OutputLog:
    """Copies what this process prints to `path`, unless it prints there already; cuts the file when it is too long.

    Never raises once it is open: a disk that is full ends the copy.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o666)
        self._pid = os.getpid()
        # Only acquired without waiting: a thread or signal handler that prints meanwhile writes at once.
        self._lock = threading.Lock()
        self._ended = False
        self._next_second = 0.0
        self._allowance = 0
        self._waiting: deque[bytes] = deque()
        self._n_waiting = 0
        self._n_skipped = 0
        self._end_of_first = 0
        self._n_cut = 0

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
        self._ended = True
        self.look(memoryview(b""))

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

    def add(self, data: memoryview) -> None:
        """Copy what has just been printed. A forked process prints without a copy: it is not what is recorded."""
        if os.getpid() != self._pid or self._file < 0:
            return
        try:
            if self._lock.acquire(blocking=False):
                try:
                    self._add(data)
                finally:
                    self._lock.release()
            else:
                os.write(self._file, data)
        except OSError:
            self._file = -1

    def look(self, data: memoryview) -> None:
        """Cut the file if it is too long, without a copy of `data`."""
        self.add(data[:0])

    def _add(self, data: memoryview) -> None:
        now = time.monotonic()
        if now >= self._next_second or self._ended:
            self._next_second = now + 1
            self._allowance = BYTES_PER_SECOND
            self._write_waiting()
            if os.fstat(self._file).st_size > LIMIT:
                self._cut()
        if self._allowance > 0:
            self._allowance -= len(data)
            if len(data):
                os.write(self._file, data)
            return
        self._waiting.append(bytes(data))
        self._n_waiting += len(data)
        while self._n_waiting > BYTES_PER_SECOND:
            skipped = len(self._waiting.popleft())
            self._n_waiting -= skipped
            self._n_skipped += skipped

    def _write_waiting(self) -> None:
        if not self._waiting:
            return
        text = b"".join(self._waiting)
        if self._n_skipped:
            # The gap begins and ends in the middle of a line.
            text = b"\n" + _left_out(self._n_skipped) + text
        self._waiting.clear()
        self._n_waiting = 0
        self._n_skipped = 0
        os.write(self._file, text)

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

    def __init__(self, descriptor: int, written: Callable[[memoryview], None], name: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.name = name
        self.replaced: Any = None
        self._written = written
        self._write = super().write

    def write(self, data: Any) -> int:
        # Python runs signal handlers after a call. A KeyboardInterrupt here, after the write and before `return`,
        # would make the caller write the block again. Unpacking an iterator is no call in this sense.
        (n_written,) = map(self._write, (data,))
        if not n_written:
            return n_written
        try:
            self._written(memoryview(data)[:n_written])
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
    """The size of the buffer that `open` chooses."""
    size = getattr(file, "_blksize", 0)
    return size if size > 1 else io.DEFAULT_BUFFER_SIZE


def _left_out(n_bytes: int) -> bytes:
    return b"[tui-lab: %d bytes of the output are left out here]\n" % n_bytes
