"""A screen that is taken away at any moment while it is made does no harm; a fault of one that stays is told."""

import asyncio
from collections.abc import Callable

import pytest
from textual.app import ComposeResult
from textual.command import CommandList
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import WorkerFailed

from tui_lab.app import LabApp
from tui_lab.screens.ask import AskLine
from tui_lab.screens.help import Help
from tui_lab.screens.runs import RunsScreen
from tui_lab.widgets.choices import Palette
from tui_lab.widgets.steady import Steady

MADE_IN = 12
"""Turns of the event loop, more than any of these screens takes until its parts are there."""


@pytest.mark.parametrize("made", [RunsScreen, Palette, lambda: Help("chooser"), lambda: AskLine("name", "")])
async def test_a_screen_taken_away_while_it_is_made(made: Callable[[], Screen[None]]) -> None:
    async with LabApp().run_test() as pilot:
        below = pilot.app.screen
        for turns in range(MADE_IN):
            pilot.app.push_screen(made())
            for _ in range(turns):
                await asyncio.sleep(0)
            pilot.app.pop_screen()
            await pilot.pause()
            assert pilot.app.screen is below
        await pilot.press("ctrl+p")
        await pilot.app.workers.wait_for_complete()
        assert pilot.app.screen.query_one(CommandList).option_count > 1


class Lacking(Steady[None], Screen[None]):
    """A screen with a fault, in what it does itself or in a worker."""

    def __init__(self, in_worker: bool) -> None:
        super().__init__()
        self.in_worker = in_worker

    def compose(self) -> ComposeResult:
        yield Vertical()

    def on_mount(self) -> None:
        if self.in_worker:
            self.run_worker(self.look_for(), name="look for it")
        else:
            self.query_one(Static)

    async def look_for(self) -> None:
        self.query_one(Static)


@pytest.mark.parametrize("in_worker", [False, True])
async def test_a_fault_of_a_screen_that_stays_is_not_hidden(in_worker: bool) -> None:
    with pytest.raises(WorkerFailed if in_worker else NoMatches):
        async with LabApp().run_test() as pilot:
            pilot.app.push_screen(Lacking(in_worker))
            await pilot.pause()
            await pilot.app.workers.wait_for_complete()
