"""A table whose columns are as wide as their cells."""

from textual.widgets._data_table import CellType

from tui_lab.app.textual_fixes.wide_column import RepaintWiderColumns


class Table(RepaintWiderColumns[CellType]):
    """A DataTable."""
