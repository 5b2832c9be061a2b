"""Which columns of a log may count its steps: those whose numbers are whole and increase from row to row."""

import math
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Rows are added cell by cell; what is kept is one number a column. n_rows: rows that are not empty."""

    n_rows: int = 0
    _last: dict[str, float] = field(default_factory=dict)
    _n_cells: dict[str, int] = field(default_factory=dict)
    _no_counters: set[str] = field(default_factory=set)

    def add(self, name: str, value: float | None) -> None:
        """Add a cell of a column; None: empty."""
        if value is None:
            return
        self._n_cells[name] = self._n_cells.get(name, 0) + 1
        is_whole = math.isfinite(value) and value >= 0 and value == int(value)
        if not is_whole or value <= self._last.get(name, -1.0):
            self._no_counters.add(name)
        self._last[name] = value

    def drop(self, name: str) -> None:
        """A column holds a text."""
        self._no_counters.add(name)

    def n_without(self, name: str) -> int:
        """Return the rows without a number in this column."""
        return self.n_rows - self._n_cells.get(name, 0)

    @property
    def names(self) -> list[str]:
        """The columns whose numbers are whole and increase, with one in every row and at least two."""
        return [
            name for name, n in self._n_cells.items() if name not in self._no_counters and n == self.n_rows and n > 1
        ]
