"""Lists in a terminal too low to show them, and clicks where it has no place, do no harm."""

import pytest
from textual.command import CommandList
from textual.events import Click
from textual.geometry import Size
from textual.pilot import Pilot
from textual.widgets import OptionList

from tui_lab.app import LabApp

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


async def test_a_click_beside_the_palette_closes_it_and_one_beside_the_terminal_does_nothing() -> None:
    async with LabApp().run_test(size=LOW) as pilot:
        await pilot.press("ctrl+p")
        palette = pilot.app.screen

        async def click(x: int, y: int) -> None:
            palette.post_message(
                Click(palette, x, y, 0, 0, 1, shift=False, meta=False, ctrl=False, screen_x=x, screen_y=y, style=None)
            )
            await pilot.pause()

        await click(*LOW)
        assert pilot.app.screen is palette
        await click(0, 0)
        assert pilot.app.screen is not palette
