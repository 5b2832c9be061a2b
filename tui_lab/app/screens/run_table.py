"""A table of runs: columns to sort by, a letter for each that is marked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual.binding import Binding

from tui_lab.app.panes.status_line import span
from tui_lab.app.widgets.table import Table
from tui_lab.core.runs.catalog import RunRow
from tui_lab.util.escape import printable

NAME = 34
STYLES = ("cyan", "yellow", "magenta", "green", "blue", "red", "bright_cyan", "bright_yellow")
LETTERS = "abcdefgh"
"""Of the runs that are marked, in the order of marking: one for each style."""


@dataclass(frozen=True)
class Column:
    """key: what `tui_lab.core.runs.query.ordered` sorts by, the largest first where `falling`."""

    title: str
    key: str
    text: Callable[[RunRow], str]
    falling: bool = False
    number: bool = False


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _count(value: int | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1e6:.3g}M" if value >= 1e6 else f"{value / 1e3:.3g}k" if value >= 1e4 else f"{value:,}"


def _metric(row: RunRow) -> str:
    if row.metric is None:
        return "–"
    return f"{row.metric:.2%}" if row.metric_name == "exact_match" else f"ppl {row.metric:.4g}"


def short(name: str, width: int = NAME) -> str:
    """A name in that many columns; of a sweep's trial, its own name and as much of the sweep's as there is room for."""
    name = printable(name)
    if len(name) <= width:
        return name
    head, _, tail = name.rpartition("/")
    if not head:
        return name[: width - 1] + "…"
    tail = tail if len(tail) <= width - 6 else tail[: width - 7] + "…"
    return f"{head[: width - len(tail) - 2]}…/{tail}"


COLUMNS = (
    Column("run", "name", lambda row: short(row.name)),
    Column("state", "state", lambda row: row.state),
    Column("steps", "steps", lambda row: f"{row.steps:,}", falling=True, number=True),
    Column("train", "train_loss", lambda row: _figure(row.train_loss), number=True),
    Column("val", "val_loss", lambda row: _figure(row.val_loss), number=True),
    Column("best", "best_val_loss", lambda row: _figure(row.best_val_loss), number=True),
    Column("metric", "exact_match", _metric, falling=True, number=True),
    Column("tags", "tag", lambda row: printable(" ".join(row.tags))),
    Column("time", "seconds", lambda row: "–" if row.seconds is None else span(row.seconds), falling=True, number=True),
    Column("params", "parameters", lambda row: _count(row.n_parameters), falling=True, number=True),
    Column("note", "note", lambda row: short(row.note.replace("\n", " "), 40)),
)
FIRST_KEY = "-created"


class RunTable(Table[Text]):
    """Call `fill` with the rows in their order."""

    BINDINGS = [
        Binding("home", "scroll_top", "First", show=False),
        Binding("end", "scroll_bottom", "Last", show=False),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._filled: object = None
        self._sorted_by: str | None = None

    @property
    def highlighted(self) -> Path | None:
        """The run under the cursor."""
        if not self.row_count:
            return None
        return Path(str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value))

    def fill(self, rows: Sequence[RunRow], marks: Mapping[Path, int], sorted_by: str) -> None:
        """Show them, the cursor on the run where it was; nothing is done where nothing has changed."""
        cells = [(row.path, self._cells(row, marks.get(row.path))) for row in rows]
        if (cells, sorted_by) == self._filled:
            return
        self._filled, here, at = (cells, sorted_by), self.highlighted, self.cursor_row
        if sorted_by != self._sorted_by:
            self._sorted_by = sorted_by
            self.clear(columns=True)
            self.add_column(Text(" "), key="mark")
            for column in COLUMNS:
                self.add_column(Text(_title(column, sorted_by)), key=column.key)
        else:
            self.clear()
        for path, row in cells:
            self.add_row(*row, key=str(path))
        paths = [path for path, _ in cells]
        if paths:
            self.move_cursor(row=paths.index(here) if here in paths else min(at, len(paths) - 1), animate=False)

    @staticmethod
    def _cells(row: RunRow, mark: int | None) -> list[Text]:
        sign = Text(" ") if mark is None else Text(LETTERS[mark], f"bold {STYLES[mark]}")
        told = [(column, "–" if row.problem and column.number else column.text(row)) for column in COLUMNS]
        return [sign, *(Text(text, justify="right" if column.number else "left") for column, text in told)]


def _title(column: Column, sorted_by: str) -> str:
    arrow = {column.key: " ↑", f"-{column.key}": " ↓"}.get(sorted_by, "")
    return f"{column.title}{arrow}"
