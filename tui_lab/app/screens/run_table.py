"""The table of runs, with a column for the marks."""

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text
from textual.binding import Binding

from tui_lab.app.screens.run_columns import COLUMNS, Column, cell_text
from tui_lab.app.screens.run_marks import Mark, Marks
from tui_lab.app.widgets.table import Table
from tui_lab.core.runs.catalog import RunRow


class RunTable(Table[Text]):
    """Call `fill` with the rows in their order."""

    BINDINGS = [
        Binding("home", "scroll_top", "First", show=False),
        Binding("end", "scroll_bottom", "Last", show=False),
    ]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, cursor_type="row", zebra_stripes=False)
        self._filled: object = None
        self._order = ""

    @property
    def highlighted(self) -> Path | None:
        """The folder of the run under the cursor."""
        if not self.row_count:
            return None
        return Path(str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value))

    def fill(self, rows: Sequence[RunRow], marks: Marks, order: str) -> None:
        """Show the rows if they have changed; the cursor stays on its run. order: the key they are sorted by."""
        cells = [(row.path, _cells(row, marks.get(row.path))) for row in rows]
        if (cells, order) == self._filled:
            return
        self._filled = (cells, order)
        highlighted = self.highlighted
        cursor_row = self.cursor_row
        if order != self._order:
            self._order = order
            self._set_columns(order)
        else:
            self.clear()
        for path, row_cells in cells:
            self.add_row(*row_cells, key=str(path))
        paths = [path for path, _ in cells]
        if highlighted in paths:
            self.move_cursor(row=paths.index(highlighted), animate=False)
        elif paths:
            self.move_cursor(row=min(cursor_row, len(paths) - 1), animate=False)

    def _set_columns(self, order: str) -> None:
        self.clear(columns=True)
        self.add_column(Text(" "), key="mark")
        for column in COLUMNS:
            self.add_column(Text(_title(column, order)), key=column.key)


def _cells(row: RunRow, mark: Mark | None) -> list[Text]:
    letter = Text(" ") if mark is None else Text(mark.letter, f"bold {mark.style}")
    texts = (Text(cell_text(column, row), justify="right" if column.number else "left") for column in COLUMNS)
    return [letter, *texts]


def _title(column: Column, order: str) -> str:
    arrow = {column.key: " ↑", f"-{column.key}": " ↓"}.get(order, "")
    return f"{column.title}{arrow}"
