"""Lists in a terminal too low to show them do no harm."""

import pytest
from textual.command import CommandList
from textual.geometry import Size
from textual.pilot import Pilot
from textual.widgets import OptionList

from tui_lab.app.app import LabApp

LOW, USUAL = (20, 5), (80, 24)


async def resize(pilot: Pilot[None], size: tuple[int, int]) -> None:
    await pilot.resize_terminal(*size)
    await pilot.pause()
    assert pilot.app.size == Size(*size)


@pytest.mark.parametrize("key", ["pageup", "pagedown"])
async def test_pages_of_a_list_without_room(key: str) -> None:
    async with LabApp().run_test(size=LOW) as pilot:
        await pilot.press(key)
        await resize(pilot, USUAL)
        choices = pilot.app.screen.query_one(OptionList)
        await pilot.press(key)
        can_be_chosen = [at for at in range(choices.option_count) if not choices.get_option_at_index(at).disabled]
        assert choices.highlighted == can_be_chosen[0 if key == "pageup" else -1]


@pytest.mark.parametrize("key", ["pageup", "pagedown"])
async def test_pages_of_the_palette_without_room(key: str) -> None:
    async with LabApp().run_test(size=LOW) as pilot:
        await pilot.press("ctrl+p")
        await pilot.app.workers.wait_for_complete()
        await pilot.press("down", key)
        await resize(pilot, USUAL)
        commands = pilot.app.screen.query_one(CommandList)
        await pilot.press("down", key)
        assert commands.highlighted is not None
