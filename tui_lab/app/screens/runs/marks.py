"""Marks of runs: each marked run has a letter and a color."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.curve_colors import CURVE_STYLES
from tui_lab.core.runs.catalog import RunRow

LETTERS = "abcdefgh"


@dataclass(frozen=True)
class Mark:
    """The number of a mark, from 0; it has a letter and a style. -1: the run under the cursor while none is marked."""

    number: int

    @property
    def letter(self) -> str:
        return "●" if self == CURSOR else LETTERS[self.number]

    @property
    def style(self) -> str:
        return CURVE_STYLES[max(0, self.number)]


CURSOR = Mark(-1)


@dataclass(frozen=True)
class MarkedRun:
    mark: Mark
    row: RunRow


class Marks:
    """The marks of run folders; at most one run per letter."""

    def __init__(self) -> None:
        self._by_path: dict[Path, Mark] = {}

    def __len__(self) -> int:
        return len(self._by_path)

    def __contains__(self, path: Path) -> bool:
        return path in self._by_path

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self._by_path)

    def get(self, path: Path) -> Mark | None:
        return self._by_path.get(path)

    def toggle(self, path: Path) -> bool:
        """Mark the run with the first free letter, or unmark it. Return False if no letter is free."""
        if path in self._by_path:
            del self._by_path[path]
            return True
        used = {mark.number for mark in self._by_path.values()}
        free = [number for number in range(len(LETTERS)) if number not in used]
        if free:
            self._by_path[path] = Mark(free[0])
        return bool(free)

    def clear(self) -> None:
        self._by_path.clear()

    def keep(self, paths: Iterable[Path]) -> None:
        """Unmark all runs but these."""
        kept_paths = set(paths)
        self._by_path = {path: mark for path, mark in self._by_path.items() if path in kept_paths}

    def marked(self, rows: Iterable[RunRow]) -> list[MarkedRun]:
        """Return those of the rows that are marked, by letter."""
        marked = [MarkedRun(self._by_path[row.path], row) for row in rows if row.path in self._by_path]
        return sorted(marked, key=lambda run: run.mark.number)
