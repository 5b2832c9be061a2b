"""Textual 8.2.8: a cell painted before its column was widened stays cut off.

A DataTable measures new rows when the app is idle. Lines painted before that are cached at the old width, and stay so
until the cursor comes to them. The table is painted again when a column's width has changed.
"""

from collections.abc import Iterable

from textual.widgets import DataTable
from textual.widgets._data_table import CellType
from textual.widgets.data_table import RowKey


class RepaintWiderColumns(DataTable[CellType]):
    _widths: tuple[int, ...] = ()

    def _update_dimensions(self, new_rows: Iterable[RowKey]) -> None:
        super()._update_dimensions(new_rows)
        widths = tuple(column.get_render_width(self) for column in self.columns.values())
        if widths != self._widths:
            self._widths = widths
            self._clear_caches()
            self.refresh()
