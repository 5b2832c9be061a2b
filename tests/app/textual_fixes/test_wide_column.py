"""A cell that was painted before its column was widened is painted whole afterwards."""

import pytest
from textual.app import App, ComposeResult
from textual.widgets import DataTable

from tests.app.fake import widened
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.widgets.table import Table


def cells(table: DataTable[str]) -> list[str]:
    return [table.render_line(y).text.strip() for y in range(1, 1 + table.row_count)]


@pytest.mark.parametrize("table_type", plain_and_fixed(DataTable, Table))
async def test_cell_painted_before_its_column_is_wide_enough(table_type: type[DataTable[str]]) -> None:
    class Tabled(App[None]):
        def compose(self) -> ComposeResult:
            table = table_type()
            table.add_column("state", key="state")
            yield table

    async with Tabled().run_test() as pilot:
        table = pilot.app.query_one(DataTable)
        for word in ("done", "damaged"):
            table.add_row(word, key=word)
        cells(table)  # Paints them while the column is as wide as its title.
        await widened(pilot, table)
        assert cells(table) == ["done", "damaged"]
        table.update_cell("done", "state", "interrupted", update_width=True)
        cells(table)
        await widened(pilot, table)
        assert cells(table) == ["interrupted", "damaged"]
