"""Pressing the mouse on a widget that was removed, but is still painted, does nothing."""

import pytest
from textual.app import App, ComposeResult
from textual.events import MouseDown
from textual.screen import Screen
from textual.widgets import Static

from tests.app.textual_fixes.mouse import mouse_event
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_screen import BaseScreen


class PlainScreen(Screen[None]):
    def compose(self) -> ComposeResult:
        yield Static("one line")


class FixedScreen(BaseScreen[None], Screen[None]):
    def compose(self) -> ComposeResult:
        yield Static("one line")


@pytest.mark.parametrize("screen_type", plain_and_fixed(PlainScreen, FixedScreen, raises=Exception))
async def test_press_on_a_removed_widget(screen_type: type[Screen[None]]) -> None:
    async with App[None]().run_test() as pilot:
        await pilot.app.push_screen(screen_type())
        await pilot.pause()
        await pilot.app.screen.query_one(Static).remove()
        pilot.app.screen._forward_event(mouse_event(MouseDown, 2, 0))
        await pilot.pause()
        assert not pilot.app.screen.query(Static)
