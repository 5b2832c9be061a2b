"""Textual 8.2.8: a click on the header of a column that is gone raises IndexError.

What was painted last stays under the pointer until the next paint, also where the table was cleared meanwhile.
"""

from textual import events
from textual.widgets import DataTable
from textual.widgets._data_table import CellType


class IgnoreStaleHeaders(DataTable[CellType]):
    async def _on_click(self, event: events.Click) -> None:
        column = event.style.meta.get("column")
        if isinstance(column, int) and column >= len(self.columns):
            event.prevent_default()  # DataTable's own handler does not run.
