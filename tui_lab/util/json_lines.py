"""JSON lines that a child process writes into a file while it works, and its parent reads."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_lab.util.strict_json import dumps

POLL_SECONDS = 0.05


class JsonLines:
    """Appends objects to a file, which stays open until the process ends."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open until the process ends.

    def write(self, **record: Any) -> None:
        """Write one object at once."""
        self._file.write(dumps(record) + "\n")
        self._file.flush()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects in a file whose process has ended; a last line that is not complete is left out."""
    text = path.read_text("utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def lines_of(child: "subprocess.Popen[bytes]", path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects that `child` writes into an existing file, as they come, until it has ended."""
    with path.open(encoding="utf-8") as file:
        begun = ""
        has_ended = False
        while not has_ended:
            has_ended = _waited(child)
            for text in file:
                begun += text
                if begun.endswith("\n"):
                    yield json.loads(begun)
                    begun = ""


def _waited(child: "subprocess.Popen[bytes]") -> bool:
    """Wait a moment; return whether the process has ended."""
    try:
        child.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True
