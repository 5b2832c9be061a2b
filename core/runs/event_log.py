"""events.jsonl: one event a line, written as they come, read whole, in part, or by its digest."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from tui_lab.core import events as ev
from tui_lab.core.runs import downsampled_log as dg
from tui_lab.core.runs.append_log import Appender
from tui_lab.core.runs.downsampled_log import Digest
from tui_lab.util import files
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps, loads

DIGEST_EVERY = 20_000
"""Events that a digest may lag behind, since whoever reads it reads these beside it."""
LONGEST_LINE = 2**24
"""Bytes; a line that is longer was written by no training."""
_TOLD_OF = (ev.Started, ev.StepDone, ev.Evaluated, ev.Saved, ev.Stopped, ev.Failed)
"""What is not told after Paused: a pause that the trouble led to is no new trouble."""
_STEP = re.compile(rb'"step": (\d+)')


def line_of(event: ev.Event) -> bytes:
    return (dumps(event.to_json()) + "\n").encode()


class Record:
    """The record in `path`, its digest in `digest_path`."""

    def __init__(self, path: Path, digest_path: Path) -> None:
        self.path, self.digest_path = path, digest_path

    def read(self, offset: int = 0) -> Iterator[ev.Event]:
        """The events from a byte on; a last line torn by a crash is left out. Raises RunError for other damage."""
        if not self.path.exists():
            return
        with self._open() as stream:
            stream.seek(offset)
            number = 0
            while line := stream.readline(LONGEST_LINE):
                number += 1
                if not line.endswith(b"\n") and len(line) < LONGEST_LINE:
                    return
                try:
                    yield ev.from_json(loads(line))
                except ValueError as error:
                    where = f"line {number}" + (f" after byte {offset}" if offset else "")
                    raise RunError(f"{self.path}, {where}: {error}; move the file away to go on without it") from error

    def digest(self) -> Digest:
        """The record in bounded size. What its file does not tell yet is read from the record. Raises RunError."""
        found, offset = dg.read(self.digest_path)
        if offset > self._size() or not self._begins_line(offset):
            found, offset = Digest(), 0
        for event in self.read(offset):
            found.add(event)
        return found

    def write(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """Pass events on, each written first. Where the disk refuses, Unwritten follows, and the lines wait for a later
        one; whoever trains had better pause. Raises RunError when too many wait."""
        digest = self.digest()
        with self._appender() as out:
            since = 0
            for event in events:
                trouble = out.add(line_of(event))
                digest.add(event)
                since += 1
                if trouble is None and (since >= DIGEST_EVERY or isinstance(event, ev.Stopped | ev.Failed | ev.Saved)):
                    self._write_digest(digest, out.size)
                    since = 0
                yield event
                if trouble is not None and isinstance(event, _TOLD_OF):
                    message = f"the record cannot be written: {files.advice(trouble)}"
                    yield ev.Unwritten(step=event.step, message=message, path=str(self.path))

    def rewind(self, step: int, seconds: float, saved_at: str = "") -> None:
        """Drop what the checkpoint `saved_at` of `step`, after updates of `seconds`, does not know of: it may happen
        again. Of a checkpoint whose writer was killed before it could tell, tell now."""
        offset = self.offset_of(step)
        digest = self.digest().before(step, seconds)
        kept, saved = [], False
        for event in self.read(offset):
            later_change = saved and isinstance(event, ev.Changed)
            if event.step <= step and not later_change:
                kept.append(event)
                saved = saved or isinstance(event, ev.Saved)
        self._keep_from(offset, b"".join(line_of(event) for event in kept))
        if saved_at and not saved:
            kept.append(ev.Saved(step=step, path=saved_at))
            self._append(kept[-1])
        for event in kept:
            digest.add(event)
        digest.seconds = seconds
        self._write_digest(digest, self._size())

    def clear(self) -> None:
        """Forget everything: what is told begins again."""
        self.path.unlink(missing_ok=True)
        self.digest_path.unlink(missing_ok=True)

    def offset_of(self, step: int) -> int:
        """The byte where the first event of `step` or later begins, found by bisection: steps never fall."""
        if not self.path.exists():
            return 0
        low, high = 0, self._size()
        with self._open() as stream:
            while low < high:
                middle = (low + high) // 2
                # From the byte before, so that a line which begins right here is not skipped.
                stream.seek(max(0, middle - 1))
                if middle:
                    stream.readline(LONGEST_LINE)
                begin, line = stream.tell(), stream.readline(LONGEST_LINE)
                found = _STEP.search(line)
                if begin >= high or found is None or int(found[1]) >= step:
                    high = middle
                else:
                    low = begin + len(line)
        return low

    def _keep_from(self, offset: int, tail: bytes) -> None:
        """Let `tail` follow the first `offset` bytes: by cutting off the end where that does, else by a new file."""
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
            if (trouble := out.add(line_of(event))) is not None:
                raise trouble

    def _write_digest(self, digest: Digest, offset: int) -> None:
        try:
            digest.write(self.digest_path, offset)
        except OSError:
            self.digest_path.unlink(missing_ok=True)

    def _appender(self) -> Appender:
        try:
            return Appender(self.path)
        except OSError as error:
            raise RunError(f"{files.advice(error)}: the record of the run") from error

    def _open(self) -> BinaryIO:
        """Raises RunError for what is no file, such as a pipe that would never end."""
        if not self.path.is_file():
            raise RunError(f"{self.path}: not a regular file")
        return self.path.open("rb")

    def _begins_line(self, offset: int) -> bool:
        if offset == 0:
            return True
        with self._open() as stream:
            stream.seek(offset - 1)
            return stream.read(1) == b"\n"

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
