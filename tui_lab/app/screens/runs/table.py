"""The table of runs, with a column for the marks."""

from collections.abc import Sequence
from pathlib import Path

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding

from tui_lab.app.screens.runs.columns import COLUMNS, FittedColumns, cell_text, fitted_columns, title_text
from tui_lab.app.screens.runs.marks import Mark, Marks
from tui_lab.app.widgets.table import Table
from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.names import short_name


class RunTable(Table[Text]):
    """Call `fill` with the rows in their order."""

    BINDINGS = [
        Binding("home", "scroll_top", "First", show=False),
        Binding("end", "scroll_bottom", "Last", show=False),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._content: tuple[Sequence[RunRow], Marks, str, float] | None = None
        self._filled: object = None
        self._columns: object = None

    @property
    def highlighted(self) -> Path | None:
        """The folder of the run under the cursor."""
        if not self.row_count:
            return None
        return Path(str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value))

    def on_resize(self) -> None:
        if self._content is not None:
            self.fill(*self._content)

    def fill(self, rows: Sequence[RunRow], marks: Marks, order: str, now: float) -> None:
        """Show the rows if they have changed; the cursor stays on its run.

        order: the key they are sorted by. now: POSIX seconds.
        """
        self._content = (rows, marks, order, now)
        fitted = self._fitted_columns(rows, order, now)
        cells = [(row.path, _cells(row, marks.get(row.path), fitted, now)) for row in rows]
        if (cells, fitted, order) == self._filled:
            return
        self._filled = (cells, fitted, order)
        highlighted = self.highlighted
        cursor_row = self.cursor_row
        if (fitted.columns, order) != self._columns:
            self._columns = (fitted.columns, order)
            self._set_columns(fitted, order)
        else:
            self.clear()
        for path, row_cells in cells:
            self.add_row(*row_cells, key=str(path))
        paths = [path for path, _ in cells]
        if highlighted in paths:
            self.move_cursor(row=paths.index(highlighted), animate=False)
        elif paths:
            self.move_cursor(row=min(cursor_row, len(paths) - 1), animate=False)

    def _fitted_columns(self, rows: Sequence[RunRow], order: str, now: float) -> FittedColumns:
        widths = {}
        for column in COLUMNS:
            cells = [cell_text(column, row, now) for row in rows]
            if not rows or any(cells) or column.key == order.removeprefix("-"):
                widths[column.key] = max(map(cell_len, [title_text(column, order), *cells]))
        gap = 2 * self.cell_padding
        room = self.size.width - self.styles.scrollbar_size_vertical
        return fitted_columns(widths, room - 1 - gap, order, gap)

    def _set_columns(self, fitted: FittedColumns, order: str) -> None:
        self.clear(columns=True)
        self.add_column(Text(" "), key="mark")
        for column in fitted.columns:
            self.add_column(Text(title_text(column, order)), key=column.key)


def _cells(row: RunRow, mark: Mark | None, fitted: FittedColumns, now: float) -> list[Text]:
    letter = Text(" ") if mark is None else Text(mark.letter, f"bold {mark.style}")
    cells = [letter]
    for column in fitted.columns:
        text = cell_text(column, row, now)
        if column.key == "name":
            text = short_name(text, fitted.name_width)
        cells.append(Text(text, justify="right" if column.number else "left"))
    return cells
