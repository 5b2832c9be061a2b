"""Tables whose columns are as wide as what stands in them."""

from collections.abc import Iterable

from textual.widgets import DataTable
from textual.widgets._data_table import CellType
from textual.widgets.data_table import RowKey


class Table(DataTable[CellType]):
    """A DataTable that is drawn anew when a column turns wider: what was painted between a new row and that, cut off to
    the width before, stayed so until the cursor came to it (Textual 8.2.8)."""

    _widths: tuple[int, ...] = ()

    def _update_dimensions(self, new_rows: Iterable[RowKey]) -> None:
        super()._update_dimensions(new_rows)
        widths = tuple(column.get_render_width(self) for column in self.columns.values())
        if widths != self._widths:
            self._widths = widths
            self._clear_caches()
            self.refresh()
