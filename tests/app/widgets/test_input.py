"""A field: keys in the order in which they were pressed."""

import pytest
from textual.app import App, ComposeResult
from textual.events import Key

from tui_lab.app.widgets.input import Field


class FieldApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Field("10")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (["backspace", "backspace", "4", "5"], "45"),
        (["home", "7", "end", "8"], "7108"),
        (["ctrl+u", "3", "left", "2"], "23"),
    ],
)
async def test_burst_of_keys_keeps_its_order(keys: list[str], value: str) -> None:
    app = FieldApp()
    async with app.run_test() as pilot:
        field = app.query_one(Field)
        field.focus()
        await pilot.pause()
        for key in keys:
            app.post_message(Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        await pilot.pause()
        assert field.value == value
