"""A file that lists the values which a process has not replaced yet, for the process that has started it."""

import json
from collections.abc import Sequence
from pathlib import Path

from tui_lab.util.files import write_text
from tui_lab.util.strict_json import dumps


class Unreplaced:
    """names: of the values that are going to be replaced. The file exists until all of them are."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._path = path
        self._left = list(names)
        self._write()

    def replaced(self, name: str) -> None:
        if name in self._left:
            self._left.remove(name)
            self._write()

    def _write(self) -> None:
        if self._left:
            write_text(self._path, dumps(self._left) + "\n")
        else:
            self._path.unlink(missing_ok=True)


def read_unreplaced(path: Path) -> list[str]:
    """Return the names of the values that a process has not replaced; empty if there is no file. Raises OSError."""
    try:
        return [str(name) for name in json.loads(path.read_bytes())]
    except FileNotFoundError:
        return []
