"""A click on the header of a column that is gone does nothing."""

import pytest
from rich.style import Style
from textual.app import App, ComposeResult
from textual.events import Click
from textual.widgets import DataTable

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.widgets.table import Table


@pytest.mark.parametrize("table_type", plain_and_fixed(DataTable, Table, raises=IndexError))
async def test_click_on_the_header_of_a_table_that_was_cleared(table_type: type[DataTable[str]]) -> None:
    class Tabled(App[None]):
        def compose(self) -> ComposeResult:
            yield table_type()

    async with Tabled().run_test() as pilot:
        table = pilot.app.query_one(DataTable)
        table.add_columns("state", "loss")
        await pilot.pause()
        table.clear(columns=True)
        header = Style(meta={"row": -1, "column": 1})
        table.post_message(Click(table, 8, 0, 0, 0, 1, False, False, False, style=header))
        await pilot.pause()
