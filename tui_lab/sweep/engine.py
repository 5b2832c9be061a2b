"""What trains the trials of a sweep, wherever that is."""

from collections.abc import Sequence
from typing import Protocol

from tui_lab.core.runs.sweep.folder import Row


class Engine(Protocol):
    @property
    def busy(self) -> bool:
        """Whether anything of this process's still trains."""

    def tend(self, rows: Sequence[Row]) -> None:
        """Take in what has ended, and begin what there is room for. Called again and again. Raises RunError."""

    def stop(self) -> None:
        """Ask all to save and end, and begin no other."""

    def kill(self) -> None:
        """End all at once, and give back what they hold."""
