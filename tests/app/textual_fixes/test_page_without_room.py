"""Page Up and Page Down in a list without room do nothing."""

import pytest
from textual.app import App, ComposeResult
from textual.command import CommandList, CommandPalette
from textual.widgets import OptionList

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.textual_fixes.palette import Palette

PAGE_KEYS = ("pageup", "pagedown")


@pytest.mark.parametrize("key", PAGE_KEYS)
@pytest.mark.parametrize("list_type", plain_and_fixed(OptionList, Choices, raises=KeyError))
async def test_page_of_a_list_without_room(list_type: type[OptionList], key: str) -> None:
    class Listed(App[None]):
        CSS = "OptionList { height: 0; border: none; }"

        def compose(self) -> ComposeResult:
            yield list_type("one", "two")

    async with Listed().run_test() as pilot:
        options = pilot.app.query_one(OptionList)
        options.focus()
        await pilot.press(key)
        options.styles.height = 10
        await pilot.pause()
        await pilot.press(key)
        assert options.highlighted == PAGE_KEYS.index(key)


@pytest.mark.parametrize("key", PAGE_KEYS)
@pytest.mark.parametrize("palette_type", plain_and_fixed(CommandPalette, Palette, raises=KeyError))
async def test_page_of_the_palette_without_room(palette_type: type[CommandPalette], key: str) -> None:
    async with App[None]().run_test(size=(80, 4)) as pilot:
        pilot.app.push_screen(palette_type())
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
        await pilot.press("down", key)
        await pilot.resize_terminal(80, 24)
        commands = pilot.app.screen.query_one(CommandList)
        await pilot.press("down", key)
        assert commands.highlighted is not None
