"""Letters of a burst are typed into the field that a key before them opened."""

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.events import Key
from textual.widgets import Button, Input

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_app import BaseApp


def with_field(app_type: type[App[None]]) -> App[None]:
    class Typed(app_type):  # type: ignore[misc, valid-type]
        BINDINGS = [Binding("slash", "open", "Open"), Binding("s", "count", "Count")]
        n_counted = 0

        def compose(self) -> ComposeResult:
            yield Button("has the focus")
            yield Input()

        def action_open(self) -> None:
            self.query_one(Input).focus()

        def action_count(self) -> None:
            self.n_counted += 1

        def on_input_submitted(self) -> None:
            self.query_one(Button).focus()

    app: App[None] = Typed()
    return app


@pytest.mark.parametrize("app_type", plain_and_fixed(App, BaseApp))
async def test_letters_are_typed_into_the_field_that_a_key_opened(app_type: type[App[None]]) -> None:
    app = with_field(app_type)
    async with app.run_test() as pilot:
        app.query_one(Button).focus()
        await pilot.pause()
        for key in ("s", "slash", "s", "a", "s", "enter", "s", "s"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        for _ in range(20):
            await pilot.pause()
        assert (app.query_one(Input).value, getattr(app, "n_counted", None)) == ("sas", 3)
