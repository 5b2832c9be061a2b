"""For each metric: its name, a sparkline, the range of its values, and the latest one; in two columns if they fit.

The curve is as wide as the numbers leave room, so that no number touches it or is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rich.text import Text
from textual.binding import Binding
from textual.events import Click
from textual.message import Message
from textual.widget import Widget

from tui_lab.app.widgets.movement import vertical
from tui_lab.runs.numbers import short_number

Floats = NDArray[np.float64]
LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = ".,:-=+*#"
LARGEST_TITLE = 14
LEAST_RANGE_WIDTH = 18
LEAST_VALUE_WIDTH = 10
LEAST_CURVE = 4
LEAST_WIDTH_FOR_RANGE = 60
LEAST_WIDTH_FOR_TWO_COLUMNS = 72
COLUMN_GAP = 3


@dataclass(frozen=True)
class Row:
    """points: (x, value), in order of x. is_old: whether the latest value is of an earlier x than that of others."""

    key: str
    title: str
    points: Sequence[tuple[float, float]]
    is_old: bool = False

    @cached_property
    def value(self) -> str:
        return short_number(self.points[-1][1]) if self.points else "–"

    @cached_property
    def range(self) -> str:
        values = [value for _, value in self.points]
        return f"{short_number(min(values))}…{short_number(max(values))}" if values else ""


class Sparklines(Widget, can_focus=True):
    """Call `show_rows`. A row that is clicked, or at which Enter is pressed, is posted as `Chosen`."""

    BINDINGS = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        *vertical("move(-1)", "move(1)"),
        Binding("enter", "choose", "Draw large", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """key: that of the row."""

        key: str

    def __init__(self, id: str, *, ascii_only: bool = False) -> None:
        super().__init__(id=id)
        self._levels = ASCII_LEVELS if ascii_only else LEVELS
        self._rows: list[Row] = []
        self._large = ""
        self._start = 0
        """The number of the first row that is shown."""
        self._selected = 0

    def show_rows(self, rows: Sequence[Row], large: str, n_rows: int) -> None:
        """Show at most `n_rows` rows, among them that of the metric `large`, which is marked."""
        place = next((i for i, row in enumerate(rows) if row.key == large), 0)
        lowest_start = max(0, place - n_rows + 1)
        self._start = min(max(lowest_start, min(self._start, place)), max(0, len(rows) - n_rows))
        self._rows = list(rows[self._start : self._start + n_rows])
        if large != self._large:
            self._selected = place - self._start
        self._large = large
        self._selected = max(0, min(self._selected, len(self._rows) - 1))
        if self.styles.height is None or self.styles.height.value != self._n_lines:
            self.styles.height = self._n_lines
        self.refresh()

    @property
    def _n_columns(self) -> int:
        return 2 if self.size.width >= LEAST_WIDTH_FOR_TWO_COLUMNS else 1

    @property
    def _n_lines(self) -> int:
        return -(-len(self._rows) // self._n_columns)

    def render(self) -> Text:
        n_columns = self._n_columns
        width = (self.size.width - (n_columns - 1) * COLUMN_GAP) // n_columns
        text = Text(no_wrap=True, overflow="crop")
        for line in range(self._n_lines):
            numbers = range(line, len(self._rows), self._n_lines)
            for column, number in enumerate(numbers):
                text.append(" " * COLUMN_GAP if column else "")
                self._append_row(text, number, width)
            text.append("\n" if line + 1 < self._n_lines else "")
        return text

    def _append_row(self, text: Text, number: int, width: int) -> None:
        row = self._rows[number]
        large = row.key == self._large
        focused = self.has_focus and number == self._selected
        title_width = min(LARGEST_TITLE, max(len(row.title) for row in self._rows))
        title = row.title if len(row.title) <= title_width else row.title[: title_width - 1] + "…"
        value_width = max(LEAST_VALUE_WIDTH, *(1 + len(each.value) for each in self._rows))
        n_columns = width - 2 - title_width - 1 - value_width
        range_width = 0
        if width >= LEAST_WIDTH_FOR_RANGE:
            range_width = max(LEAST_RANGE_WIDTH, *(1 + len(each.range) for each in self._rows))
        if n_columns - range_width < LEAST_CURVE:
            range_width = 0
        n_columns -= range_width
        text.append("▸ " if large else "  ", "bold")
        text.append(title.ljust(title_width), "reverse" if focused else "bold" if large else "dim")
        text.append(" ")
        self._append_curve(text, row, max(0, n_columns), "cyan" if large else "dim")
        text.append(row.range.rjust(range_width) if range_width else "", "dim")
        text.append(row.value.rjust(value_width), "dim" if row.is_old or not row.points else "")

    def _append_curve(self, text: Text, row: Row, n_columns: int, style: str) -> None:
        if not row.points or n_columns < LEAST_CURVE:
            text.append(" " * n_columns)
            return
        array = np.array(row.points, dtype=float)
        low = float(array[:, 1].min())
        high = float(array[:, 1].max())
        first, last = self._span()
        values = resampled(array, n_columns, first, last)
        heights = np.rint((values - low) / ((high - low) or 1.0) * (len(self._levels) - 1))
        text.append("".join(" " if np.isnan(height) else self._levels[int(height)] for height in heights), style)

    def _span(self) -> tuple[float, float]:
        """Return the first and the last x of all rows."""
        curves = [row.points for row in self._rows if row.points]
        return min(points[0][0] for points in curves), max(points[-1][0] for points in curves)

    def action_move(self, by: int) -> None:
        self._selected = max(0, min(self._selected + by, len(self._rows) - 1))
        self.refresh()

    def action_choose(self) -> None:
        if self._rows:
            self.post_message(self.Chosen(self._rows[self._selected].key))

    def on_click(self, event: Click) -> None:
        column = min(event.x * self._n_columns // max(1, self.size.width), self._n_columns - 1)
        number = event.y + column * self._n_lines
        if 0 <= event.y < self._n_lines and number < len(self._rows):
            self._selected = number
            self.action_choose()


def resampled(points: Floats, n_columns: int, first: float, last: float) -> Floats:
    """Return the highest value of each column of an axis from `first` to `last`.

    A column without a point has the value of the one before it, or NaN if there is none. points: rows of x and value,
    in order of x.
    """
    share = (points[:, 0] - first) / ((last - first) or 1.0)
    columns = np.minimum(share * n_columns, n_columns - 1).astype(int)
    highest = np.full(n_columns, -np.inf)
    np.maximum.at(highest, columns, points[:, 1])
    latest = np.maximum.accumulate(np.where(np.isfinite(highest), np.arange(n_columns), -1))
    return np.asarray(np.where(latest < 0, np.nan, highest[latest]))
