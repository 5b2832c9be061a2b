"""Read what a process prints into a log file, at a bounded cost however much it prints."""

import re
from dataclasses import replace
from pathlib import Path

from tui_lab.app.session.messages import Printed
from tui_lab.runs.event_text import is_event_line

MAX_READ = 2**16
"""Bytes read at one look; what came before them is skipped."""
MAX_LINES = 100
"""Lines passed on after one look; those before them are skipped."""
MAX_LINE = 1000
"""Characters of a line that are shown."""
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
"""Escape sequences of a terminal: colors, cursor movements, titles."""


class OutputTail:
    """Call `poll` for the lines that were added to the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._unfinished = b""
        """The bytes after the last newline that was read."""
        self.last_lines: tuple[str, ...] = ()
        """Of the last look that had any."""

    def poll(self) -> Printed | None:
        """Return what was added since the last call; None if nothing was, or if the file cannot be read."""
        try:
            with self._path.open("rb") as stream:
                size = stream.seek(0, 2)
                if size < self._offset:  # Another process has replaced the file.
                    self._offset = 0
                    self._unfinished = b""
                if size == self._offset:
                    return None
                start = max(self._offset, size - MAX_READ)
                stream.seek(start)
                added = stream.read(size - start)
        except OSError:
            return None
        n_skipped = start - self._offset
        if n_skipped:
            n_skipped += len(self._unfinished)
            self._unfinished = b""
        self._offset = start + len(added)
        return self._printed(added, n_skipped)

    def _printed(self, added: bytes, n_skipped: int) -> Printed:
        *lines, unfinished = (self._unfinished + added).split(b"\n")
        if n_skipped and lines:
            n_skipped += len(lines[0]) + 1  # The end of a line whose beginning was skipped.
            del lines[0]
        n_skipped += sum(len(line) + 1 for line in lines[:-MAX_LINES])
        # Only the last part of a progress bar matters, and only so much of a line is shown.
        ending = unfinished[-1:] if unfinished.endswith(b"\r") else b""
        self._unfinished = unfinished.removesuffix(b"\r").rpartition(b"\r")[2][-MAX_READ:] + ending
        shown = tuple(_shown(line) for line in lines[-MAX_LINES:])
        if shown:
            self.last_lines = shown
        return Printed(shown, _shown(self._unfinished), n_skipped)


def without_events(printed: Printed) -> Printed:
    """Return what `tui-lab run` has printed without the lines of events, which the app shows already."""
    return replace(printed, lines=tuple(line for line in printed.lines if not is_event_line(line)))


def _shown(line: bytes) -> str:
    """Return the text of a line as a terminal would leave it: without colors, and after the last carriage return."""
    text = _ESCAPES.sub("", line.decode("utf-8", "replace")).rstrip("\r").rpartition("\r")[2].rstrip()
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"
