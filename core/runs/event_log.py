"""events.jsonl: one event per line, written as they happen; read whole, from an offset, or downsampled."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tui_lab.core import events as ev
from tui_lab.core.runs.append_log import Appender
from tui_lab.core.runs.downsampled_log import DownsampledLog, read_changes, read_downsampled_log
from tui_lab.util import files
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps

DIGEST_EVERY = 20_000
"""Events after which digest.json is written again. A reader reads the later ones from events.jsonl."""
LONGEST_LINE = 2**24
"""Bytes. No event is longer, so a longer line is damage."""
_REPORTED_AFTER = (ev.Started, ev.StepDone, ev.Evaluated, ev.Saved, ev.Stopped, ev.Failed)
"""Events after which a failed write is reported. Paused is not one: the failure itself led to the pause."""
_STEP = re.compile(rb'"step": (\d+)')


def line_of(event: ev.Event) -> bytes:
    """Return the line of an event in events.jsonl."""
    return (dumps(event.to_json()) + "\n").encode()


def with_time(event: ev.Event) -> ev.Event:
    """Return the event with the time now, unless it has one; steps and logged values are too many to have one each."""
    is_frequent = isinstance(event, ev.StepDone) or (isinstance(event, ev.Logged) and not event.texts)
    return event if is_frequent or event.time is not None else replace(event, time=round(time.time(), 3))


def read_events(path: Path, offset: int = 0, *, mid_line: bool = False) -> Iterator[ev.Event]:
    """Yield the events in an events.jsonl from byte `offset` on; nothing if there is no file.

    mid_line: the offset may be within a line, which is skipped. A last line torn by a crash is skipped, too. Raises
    RunError for other damage, OSError.
    """
    if not path.exists():
        return
    with _open(path) as stream:
        stream.seek(offset)
        if mid_line:
            stream.readline(LONGEST_LINE)
        number = 0
        while line := stream.readline(LONGEST_LINE):
            number += 1
            if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                return
            try:
                yield ev.parse_event(line)
            except ValueError as error:
                place = f"line {number}" + (f" after byte {offset}" if offset else "")
                raise RunError.of(
                    "damaged", f"{error}; move the file aside to continue without it", key=f"{path}, {place}"
                ) from error


def events_until(events: Iterable[ev.Event], step: int, saved_at: str) -> list[ev.Event]:
    """Return the events of a run until its checkpoint `saved_at` of `step`: no later step, and no later change.

    saved_at: its path in the Saved event; empty: the first of that step.
    """
    remaining: list[ev.Event] = []
    saved = False
    for event in events:
        later_change = saved and isinstance(event, ev.Changed)
        if event.step <= step and not later_change:
            remaining.append(event)
            if isinstance(event, ev.Saved) and event.step == step and saved_at in ("", event.path):
                saved = True
    return remaining


class EventLog:
    """The event log in `path`, with its downsampled log in `digest_path`."""

    def __init__(self, path: Path, digest_path: Path) -> None:
        self.path = path
        self.digest_path = digest_path

    def read(self, offset: int = 0) -> Iterator[ev.Event]:
        """Return the events from byte `offset` on; see `read_events`."""
        return read_events(self.path, offset)

    def stored_downsampled(self) -> tuple[DownsampledLog, int]:
        """Return the log in digest.json and the bytes of events.jsonl that it covers.

        The log is empty where they do not fit.
        """
        log, offset = read_downsampled_log(self.digest_path)
        if offset > self.size() or not self._begins_line(offset):
            return DownsampledLog(), 0
        return log, offset

    def downsampled(self) -> DownsampledLog:
        """Return the whole log in bounded size. Raises RunError."""
        log, offset = self.stored_downsampled()
        for event in self.read(offset):
            log.add(event)
        return log

    def changes(self) -> list[ev.Changed]:
        """Return the live changes, without the other events where digest.json covers the whole log. Raises RunError."""
        changes = read_changes(self.digest_path, self.size())
        if changes is not None:
            return changes
        return [event for event in self.downsampled().events() if isinstance(event, ev.Changed)]

    def write(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """Pass events on with their time, each written first.

        Where the disk refuses a line, SaveFailed follows, and the line waits for a later one: the caller should pause.
        Of some kinds of events it follows only if they are the last.
        Raises RunError when too many lines wait.
        """
        log = self.downsampled()
        with self._appender() as out:
            since = 0
            unreported: ev.SaveFailed | None = None
            for event in map(with_time, events):
                failure = out.add(line_of(event))
                unreported = None if failure is None else self._save_failed(event.step, failure)
                log.add(event)
                since += 1
                if failure is None and (since >= DIGEST_EVERY or isinstance(event, ev.Stopped | ev.Failed | ev.Saved)):
                    self._write_digest(log, out.size)
                    since = 0
                yield event
                if unreported is not None and isinstance(event, _REPORTED_AFTER):
                    yield unreported
                    unreported = None
            if unreported is not None:
                yield unreported

    def _save_failed(self, step: int, error: OSError) -> ev.SaveFailed:
        message = f"the event log cannot be written: {files.advice(error)}"
        return ev.SaveFailed(step=step, message=message, path=str(self.path))

    def rewind(self, step: int, seconds: float, saved_at: str = "") -> None:
        """Drop the events after the checkpoint `saved_at` of `step`, which may happen again.

        seconds: the time of all steps until then. Where the process was killed between writing the checkpoint and its
        Saved event, the event is added.
        """
        offset = self.offset_of(step)
        log = self.downsampled().before(step, seconds)
        remaining = events_until(self.read(offset), step, saved_at)
        saved = any(isinstance(event, ev.Saved) and event.path == saved_at for event in remaining)
        self._keep_from(offset, b"".join(line_of(event) for event in remaining))
        if saved_at and not saved:
            remaining.append(ev.Saved(step=step, path=saved_at))
            self._append(remaining[-1])
        for event in remaining:
            log.add(event)
        log.seconds = seconds
        self._write_digest(log, self.size())

    def clear(self) -> None:
        """Remove all events."""
        self.path.unlink(missing_ok=True)
        self.digest_path.unlink(missing_ok=True)

    def offset_of(self, step: int) -> int:
        """Return the byte where the first event of `step` or later begins, found by bisection: steps never decrease."""
        if not self.path.exists():
            return 0
        low = 0
        high = self.size()
        with _open(self.path) as stream:
            while low < high:
                middle = (low + high) // 2
                # Start one byte earlier, so that a line that begins at `middle` is not skipped.
                stream.seek(max(0, middle - 1))
                if middle:
                    stream.readline(LONGEST_LINE)
                start = stream.tell()
                line = stream.readline(LONGEST_LINE)
                match = _STEP.search(line)
                if start >= high or match is None or int(match[1]) >= step:
                    high = middle
                else:
                    low = start + len(line)
        return low

    def _keep_from(self, offset: int, tail: bytes) -> None:
        """Keep the first `offset` bytes and `tail`: by truncating the file where that is enough, else by a new file."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as stream:
            stream.seek(offset)
            if stream.read(len(tail)) == tail:
                stream.truncate(offset + len(tail))
                return
            stream.seek(0)
            head = stream.read(offset)
        files.write_text(self.path, (head + tail).decode())

    def _append(self, event: ev.Event) -> None:
        with self._appender() as out:
            if (failure := out.add(line_of(event))) is not None:
                raise failure

    def _write_digest(self, log: DownsampledLog, offset: int) -> None:
        try:
            log.write(self.digest_path, offset)
        except OSError:
            self.digest_path.unlink(missing_ok=True)

    def _appender(self) -> Appender:
        try:
            return Appender(self.path)
        except OSError as error:
            raise RunError.of("unwritable", f"the event log: {files.advice(error)}") from error

    def _begins_line(self, offset: int) -> bool:
        if offset == 0:
            return True
        with _open(self.path) as stream:
            stream.seek(offset - 1)
            return stream.read(1) == b"\n"

    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path.exists() else 0


def _open(path: Path) -> BinaryIO:
    """Open `path` for reading. Raises RunError for a pipe or device, whose reading might never end."""
    if not path.is_file():
        raise RunError.of("unreadable", "not a regular file", key=str(path))
    return path.open("rb")
