"""A line for each metric: its name, a sparkline, the range of its values, and the latest one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.text import Text
from textual.binding import Binding
from textual.events import Click
from textual.message import Message
from textual.widget import Widget

from tui_lab.app.widgets.movement import vertical
from tui_lab.app.widgets.numbers import short_number

Floats = NDArray[np.float64]
LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = ".,:-=+*#"
LARGEST_TITLE = 14
RANGE_WIDTH = 18
VALUE_WIDTH = 10
LEAST_WIDTH_FOR_RANGE = 60


@dataclass(frozen=True)
class Row:
    """points: (x, value), in order of x."""

    key: str
    title: str
    points: Sequence[tuple[float, float]]


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

    def show_rows(self, rows: Sequence[Row], large: str, n_lines: int) -> None:
        """Show as many rows as there are lines, among them that of the metric `large`, which is marked."""
        place = next((i for i, row in enumerate(rows) if row.key == large), 0)
        lowest_start = max(0, place - n_lines + 1)
        self._start = min(max(lowest_start, min(self._start, place)), max(0, len(rows) - n_lines))
        self._rows = list(rows[self._start : self._start + n_lines])
        if large != self._large:
            self._selected = place - self._start
        self._large = large
        self._selected = max(0, min(self._selected, len(self._rows) - 1))
        if self.styles.height is None or self.styles.height.value != len(self._rows):
            self.styles.height = len(self._rows)
        self.refresh()

    def render(self) -> Text:
        width = self.size.width
        title_width = min(LARGEST_TITLE, max((len(row.title) for row in self._rows), default=0))
        with_range = width >= LEAST_WIDTH_FOR_RANGE
        n_columns = max(4, width - 2 - title_width - 1 - VALUE_WIDTH - (RANGE_WIDTH if with_range else 0))
        text = Text(no_wrap=True, overflow="crop")
        for number, row in enumerate(self._rows):
            large = row.key == self._large
            focused = self.has_focus and number == self._selected
            title = row.title if len(row.title) <= title_width else row.title[: title_width - 1] + "…"
            text.append("▸ " if large else "  ", "bold")
            text.append(title.ljust(title_width), "reverse" if focused else "bold" if large else "dim")
            text.append(" ")
            self._append_curve(text, row, n_columns, with_range=with_range, style="cyan" if large else "dim")
            text.append("\n" if number + 1 < len(self._rows) else "")
        return text

    def _append_curve(self, text: Text, row: Row, n_columns: int, *, with_range: bool, style: str) -> None:
        if not row.points:
            text.append("–".rjust(n_columns + VALUE_WIDTH + (RANGE_WIDTH if with_range else 0)), "dim")
            return
        array = np.array(row.points, dtype=float)
        low = float(array[:, 1].min())
        high = float(array[:, 1].max())
        first, last = self._span()
        values = resampled(array, n_columns, first, last)
        heights = np.rint((values - low) / ((high - low) or 1.0) * (len(self._levels) - 1))
        text.append("".join(" " if np.isnan(height) else self._levels[int(height)] for height in heights), style)
        if with_range:
            text.append(f"{short_number(low)}…{short_number(high)}".rjust(RANGE_WIDTH), "dim")
        text.append(short_number(row.points[-1][1]).rjust(VALUE_WIDTH))

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
        if 0 <= event.y < len(self._rows):
            self._selected = event.y
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
