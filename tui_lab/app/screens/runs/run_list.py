"""The runs of a folder, filtered and sorted."""

from collections.abc import Sequence

from tui_lab.app.screens.runs.columns import FIRST_ORDER, ORDERS
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.query import ordered, parse_condition, select
from tui_lab.util.errors import ConfigError


class RunList:
    """`shown` are the rows that match the filter, sorted. While the filter is invalid, they stay as they were."""

    def __init__(self) -> None:
        self.rows: tuple[RunRow, ...] = ()
        self.shown: list[RunRow] = []
        self.filter = ""
        """Words and conditions, separated by spaces."""
        self.order = FIRST_ORDER
        """A key of `ordered`; with a leading "-" for the largest value first."""
        self.problem = ""
        """What is wrong with the filter."""

    def set_rows(self, rows: Sequence[RunRow]) -> None:
        self.rows = tuple(rows)
        self._update()

    def set_filter(self, text: str) -> None:
        self.filter = text
        self._update()

    def sort_by(self, order: str) -> None:
        self.order = order
        self._update()

    @property
    def key(self) -> str:
        """The key that is sorted by, without its direction."""
        return self.order.removeprefix("-")

    def sort_by_key(self, key: str) -> None:
        """Sort by a column, or reverse the order if it is sorted by that already."""
        if key == self.key:
            self.reverse()
        else:
            self.sort_by(next((order for order in ORDERS if order.removeprefix("-") == key), self.order))

    def sort_by_next(self) -> None:
        keys = [order.removeprefix("-") for order in ORDERS]
        self.sort_by(ORDERS[(keys.index(self.key) + 1) % len(ORDERS)])

    def reverse(self) -> None:
        self.sort_by(self.key if self.order.startswith("-") else f"-{self.order}")

    def _update(self) -> None:
        try:
            conditions = [parse_condition(word) for word in self.filter.split()]
        except ConfigError as error:
            self.problem = str(error.problems[0])
            by_path = {row.path: row for row in self.rows}
            self.shown = [by_path[row.path] for row in self.shown if row.path in by_path]
            return
        self.problem = ""
        self.shown = ordered(select(self.rows, conditions), self.order)
