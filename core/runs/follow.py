"""Follow the event log that another process writes. `lock.in_use` says whether that process is still there."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tui_lab.core import events as ev
from tui_lab.core.runs.event_log import LONGEST_LINE
from tui_lab.util.errors import RunError

MAX_READ = 2**24
"""Bytes read at one look, so that a follower that fell behind stays responsive."""


@dataclass(frozen=True)
class Restarted:
    """The log does not continue where it was left: another process has resumed the run. Load it again."""


class LogFollower:
    """Reads the events that are appended to `path`, from byte `offset` on."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset
        self._inode = self._stat_inode()

    @property
    def offset(self) -> int:
        """The byte after the last event that was read."""
        return self._offset

    def poll(self) -> list[ev.Event] | Restarted:
        """Return the events appended since the last call; a line still being written waits.

        Raises RunError for damage.
        """
        try:
            with self._path.open("rb") as stream:
                stream.seek(0, 2)
                inode = os.fstat(stream.fileno()).st_ino
                if self._inode is None:
                    self._inode = inode
                if stream.tell() < self._offset or inode != self._inode:
                    return Restarted()
                return self._read(stream)
        except FileNotFoundError:
            return Restarted() if self._offset else []
        except OSError as error:
            raise RunError.of("unreadable", f"{error.strerror}", value=str(self._path)) from error

    def _read(self, stream: BinaryIO) -> list[ev.Event]:
        stream.seek(self._offset)
        data = stream.read(MAX_READ)
        end = data.rfind(b"\n") + 1
        if not end and len(data) >= LONGEST_LINE:
            raise RunError.of("damaged", f"a line of more than {LONGEST_LINE:,} bytes", value=str(self._path))
        events = []
        for line in data[:end].splitlines():
            try:
                events.append(ev.parse_event(line))
            except ValueError as error:
                raise RunError.of("damaged", f"after byte {self._offset:,}: {error}", value=str(self._path)) from error
        self._offset += end
        return events

    def _stat_inode(self) -> int | None:
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return None
