"""Tables that are painted at any moment show what stands in them."""

from textual.app import App, ComposeResult

from tests.app.fake import widened
from tui_lab.app.widgets.table import Table


class Tabled(App[None]):
    def compose(self) -> ComposeResult:
        table: Table[str] = Table()
        table.add_column("state", key="state")
        yield table


def shown(table: Table[str]) -> list[str]:
    return [table.render_line(y).text.strip() for y in range(1, 1 + table.row_count)]


async def test_what_was_painted_before_its_column_was_wide_enough_is_whole_afterwards() -> None:
    async with Tabled().run_test() as pilot:
        table = pilot.app.query_one(Table)
        for word in ("done", "damaged"):
            table.add_row(word, key=word)
        assert shown(table)[1] == "damag", "the column is as wide as its title still"
        await widened(pilot, table)
        assert shown(table) == ["done", "damaged"]
        table.update_cell("done", "state", "interrupted", update_width=True)
        assert shown(table)[0] == "interru"
        await widened(pilot, table)
        assert shown(table) == ["interrupted", "damaged"]
