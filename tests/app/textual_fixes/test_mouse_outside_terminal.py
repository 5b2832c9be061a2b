"""A mouse event from before the terminal became smaller does nothing."""

import pytest
from textual.app import App
from textual.command import CommandPalette
from textual.errors import NoWidget
from textual.events import Click

from tests.app.textual_fixes.mouse import mouse_event
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_app import BaseApp
from tui_lab.app.textual_fixes.palette import Palette


@pytest.mark.parametrize("palette_type", plain_and_fixed(CommandPalette, Palette, raises=NoWidget))
async def test_click_outside(palette_type: type[CommandPalette]) -> None:
    async with App[None]().run_test(size=(20, 5)) as pilot:
        palette = palette_type()
        await pilot.app.push_screen(palette)
        palette.post_message(mouse_event(Click, 20, 5))
        await pilot.pause()
        assert pilot.app.screen is palette
        palette.post_message(mouse_event(Click, 0, 0))
        await pilot.pause()
        assert pilot.app.screen is not palette, "a click inside, next to the list, closes the palette"


async def test_theme_search_is_closed_once() -> None:
    async with BaseApp().run_test() as pilot:
        below = pilot.app.screen
        pilot.app.search_themes()
        await pilot.pause()
        search = pilot.app.screen
        for _ in range(2):
            search.post_message(mouse_event(Click, 0, 0))
        await pilot.pause()
        assert pilot.app.screen is below
