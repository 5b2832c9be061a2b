"""Append whole lines to a file: a line that was only partly written is removed before the next one."""

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from tui_lab.util.errors import RunError

MAX_WAITING = 10_000
"""Lines kept in memory while the disk refuses them. A trainer that pauses at the first one adds only a few."""


class Appender:
    """Appends lines to `path`. Lines that the disk refuses wait, in order, for the next call of `add`."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self.size = os.fstat(self._file).st_size
        """Bytes of whole lines in the file."""
        self._waiting: list[bytes] = []
        self._is_torn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def add(self, line: bytes) -> OSError | None:
        """Append a line. Returns None when it and all before it are in the file, otherwise the error.

        Raises RunError when too many lines wait.
        """
        self._waiting.append(line)
        try:
            self._flush()
        except OSError as error:
            if len(self._waiting) > MAX_WAITING:
                raise RunError.of(
                    "unwritable", f"{error.strerror}; {MAX_WAITING:,} events could not be written", key=str(self.path)
                ) from error
            return OSError(error.errno, error.strerror, str(self.path))
        return None

    def _flush(self) -> None:
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, "the file or its folder was removed")
        if self._is_torn:
            self._truncate()
        while self._waiting:
            self._write(self._waiting[0])
            del self._waiting[0]

    def _write(self, line: bytes) -> None:
        done = 0
        try:
            while done < len(line):
                done += os.write(self._file, line[done:])
        except OSError:
            self._is_torn = True
            with contextlib.suppress(OSError):
                self._truncate()
            raise
        self.size += len(line)

    def _truncate(self) -> None:
        os.ftruncate(self._file, self.size)
        self._is_torn = False
