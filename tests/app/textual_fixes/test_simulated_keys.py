"""A key that a click simulates reaches the bindings above the focus."""

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import Click
from textual.widgets import Button, Static

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_app import BaseApp


class Box(Vertical):
    BINDINGS = [Binding("m", "count", "Count")]
    n_pressed = 0

    def compose(self) -> ComposeResult:
        yield Button("has the focus")
        yield Static("click here", id="key")

    def on_click(self, event: Click) -> None:
        self.app.simulate_key("m")

    def action_count(self) -> None:
        self.n_pressed += 1


@pytest.mark.parametrize("app_type", plain_and_fixed(App, BaseApp))
async def test_simulated_key_reaches_the_box(app_type: type[App[None]]) -> None:
    async with app_type().run_test() as pilot:
        box = Box()
        await pilot.app.mount(box)
        box.query_one(Button).focus()
        await pilot.pause()
        await pilot.click("#key")
        for _ in range(3):
            await pilot.pause()
        assert box.n_pressed == 1
