"""A file that only grows, line by line, and never by half a line that the next one could follow."""

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from tui_lab.util.errors import RunError

MOST_WAITING = 10_000
"""Lines kept in memory while the disk takes none: a training that is paused at the first adds a handful."""


class Appender:
    """Appends whole lines to `path`. What a full disk refuses waits, in order, for the next line."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self.size = os.fstat(self._file).st_size
        """Bytes of whole lines in the file."""
        self._waiting: list[bytes] = []
        self._torn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, line: bytes) -> OSError | None:
        """None when this line and all before it are in the file; else why not. Raises RunError when too many wait."""
        self._waiting.append(line)
        try:
            self._flush()
        except OSError as error:
            if len(self._waiting) > MOST_WAITING:
                raise RunError(
                    f"{self.path}: {error.strerror}; {MOST_WAITING:,} events could not be written"
                ) from error
            return OSError(error.errno, error.strerror, str(self.path))
        return None

    def _flush(self) -> None:
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file or its folder was removed")
        if self._torn:
            self._cut()
        while self._waiting:
            self._write(self._waiting[0])
            del self._waiting[0]

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except OSError:
            self._torn = True
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self.size += len(line)

    def _cut(self) -> None:
        os.ftruncate(self._file, self.size)
        self._torn = False
