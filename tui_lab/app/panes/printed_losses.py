"""The validation losses that a script prints itself, so that the events pane does not say them a second time."""

import re
from collections import deque
from collections.abc import Iterable

MOST_LINES = 200
"""Printed lines and logged evaluations that are remembered."""
_LOSS = re.compile(r"(?<![\w.])\d+\.(\d{3,})(?![\w.])")
"""With fewer decimals, another number may be equal by chance."""
_NAME = re.compile(r"val|eval|dev|test", re.IGNORECASE)
"""What a printed line calls a validation loss, somewhere."""


class PrintedLosses:
    """Matches printed lines with evaluations, whichever comes first; each line with one evaluation."""

    def __init__(self) -> None:
        self._printed: deque[str] = deque(maxlen=MOST_LINES)
        """Lines with a validation loss that no evaluation has had so far."""
        self._logged: deque[tuple[float, str]] = deque(maxlen=MOST_LINES)
        """Validation losses that no printed line has had so far, with their lines in the log."""

    def take(self, loss: float) -> bool:
        """Return whether the script has printed this loss."""
        line = next((line for line in self._printed if _has(line, loss)), None)
        if line is not None:
            self._printed.remove(line)
        return line is not None

    def log(self, loss: float, text: str) -> None:
        """Remember the line of an evaluation that was logged."""
        self._logged.append((loss, text))

    def print(self, lines: Iterable[str]) -> list[str]:
        """Remember printed lines; return the logged lines that they make superfluous."""
        superfluous = []
        for line in lines:
            if not _NAME.search(line) or not _LOSS.search(line):
                continue
            logged = next((each for each in self._logged if _has(line, each[0])), None)
            if logged is None:
                self._printed.append(line)
            else:
                self._logged.remove(logged)
                superfluous.append(logged[1])
        return superfluous


def _has(line: str, loss: float) -> bool:
    """Return whether a line has a number that is this loss, rounded."""
    return any(f"{loss:.{len(match[1])}f}" == match[0] for match in _LOSS.finditer(line))
