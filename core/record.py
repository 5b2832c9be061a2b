"""events.jsonl: one event a line, written as they come, read whole, in part, or by its digest."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from core import digest as dg
from core import events as ev
from core import files
from core.digest import Digest
from core.errors import RunError
from core.jsontext import dumps

DIGEST_EVERY = 20_000
"""Events that a digest may lag behind, since whoever reads it reads these beside it."""
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
        with self.path.open("rb") as stream:
            stream.seek(offset)
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    yield ev.from_json(json.loads(line))
                except ValueError as error:
                    where = f"line {number}" + (f" after byte {offset}" if offset else "")
                    raise RunError(f"{self.path}, {where}: {error}") from error

    def digest(self) -> Digest:
        """The record in bounded size. What its file does not tell yet is read from the record. Raises RunError."""
        found, offset = dg.read(self.digest_path)
        if offset > self._size() or not self._begins_line(offset):
            found, offset = Digest(), 0
        for event in self.read(offset):
            found.add(event)
        return found

    def write(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """Pass events on, each written first."""
        digest = self.digest()
        with self.path.open("ab") as out:
            since = 0
            for event in events:
                out.write(line_of(event))
                out.flush()
                digest.add(event)
                since += 1
                if since >= DIGEST_EVERY or isinstance(event, ev.Stopped | ev.Failed | ev.Saved):
                    self._write_digest(digest, out.tell())
                    since = 0
                yield event

    def rewind(self, step: int, seconds: float) -> None:
        """Drop what a checkpoint of `step`, after updates of `seconds`, does not know of: it may happen again."""
        offset = self.offset_of(step)
        digest = self.digest().before(step, seconds)
        kept, saved = [], False
        for event in self.read(offset):
            later_change = saved and isinstance(event, ev.Changed)
            if event.step <= step and not later_change:
                kept.append(event)
                saved = saved or isinstance(event, ev.Saved)
        self._keep_from(offset, b"".join(line_of(event) for event in kept))
        for event in kept:
            digest.add(event)
        digest.seconds = seconds
        self._write_digest(digest, self._size())

    def offset_of(self, step: int) -> int:
        """The byte where the first event of `step` or later begins, found by bisection: steps never fall."""
        if not self.path.exists():
            return 0
        low, high = 0, self._size()
        with self.path.open("rb") as stream:
            while low < high:
                middle = (low + high) // 2
                # From the byte before, so that a line which begins right here is not skipped.
                stream.seek(max(0, middle - 1))
                if middle:
                    stream.readline()
                begin, line = stream.tell(), stream.readline()
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

    def _write_digest(self, digest: Digest, offset: int) -> None:
        try:
            digest.write(self.digest_path, offset)
        except OSError:
            self.digest_path.unlink(missing_ok=True)

    def _begins_line(self, offset: int) -> bool:
        if offset == 0:
            return True
        with self.path.open("rb") as stream:
            stream.seek(offset - 1)
            return stream.read(1) == b"\n"

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0
