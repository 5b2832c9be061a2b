"""A key waits until the screen that it goes to is mounted."""

import asyncio

import pytest
from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.events import Key
from textual.screen import Screen
from textual.widgets import Static

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_app import BaseApp


class SlowToMount(Screen[None]):
    """A screen that is mounted once `may_mount` is set, with a key that acts at once."""

    BINDINGS = [Binding("x", "mark", "Mark", priority=True)]

    def __init__(self) -> None:
        super().__init__()
        self.may_mount = asyncio.Event()
        self.marked = False

    def compose(self) -> ComposeResult:
        yield Static("one line")

    async def on_mount(self) -> None:
        await self.may_mount.wait()

    def action_mark(self) -> None:
        self.marked = True


@pytest.mark.parametrize("app_type", plain_and_fixed(App, BaseApp))
async def test_key_pressed_before_the_screen_is_mounted(app_type: type[App[None]]) -> None:
    async with app_type().run_test() as pilot:
        screen = SlowToMount()
        pilot.app.post_message(Key("x", "x"))
        pilot.app.push_screen(screen)
        for _ in range(50):
            await asyncio.sleep(0)
        too_soon = screen.marked
        screen.may_mount.set()
        await pilot.pause()
        assert screen.marked and not too_soon
