"""A table whose columns are as wide as their cells."""

from textual.widgets._data_table import CellType

from tui_lab.app.textual_fixes.stale_header import IgnoreStaleHeaders
from tui_lab.app.textual_fixes.wide_column import RepaintWiderColumns
from tui_lab.app.widgets.movement import CURSOR, horizontal


class Table(IgnoreStaleHeaders[CellType], RepaintWiderColumns[CellType]):
    """A DataTable."""

    BINDINGS = [*CURSOR, *horizontal("cursor_left", "cursor_right")]
