"""A screen that is removed while it is built does not end the app; an error in a screen that stays does."""

import asyncio
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.command import CommandList
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import WorkerFailed

from tests.app.fake import AppWithoutHome
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.screens.dialogs import AskLine
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.runs.screen import RunsScreen
from tui_lab.app.textual_fixes.base_app import BaseApp
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.palette import Palette

TURNS_TO_BUILD = 12
"""Turns of the event loop; more than any of these screens takes until its children are mounted."""


class LooksUpChild(Screen[None]):
    def compose(self) -> ComposeResult:
        yield Vertical(Static("a child"))

    def on_mount(self) -> None:
        self.query_one(Static)


async def push_and_pop(app: App[Any], screen: Screen[Any], turns: int) -> None:
    """Pop a screen so many turns of the event loop after it was pushed."""
    app.push_screen(screen)
    for _ in range(turns):
        await asyncio.sleep(0)
    app.pop_screen()


@pytest.mark.parametrize("app_type", plain_and_fixed(App, BaseApp, raises=NoMatches))
async def test_screen_popped_while_it_is_built(app_type: type[App[None]]) -> None:
    async with app_type().run_test() as pilot:
        for turns in range(TURNS_TO_BUILD):
            await push_and_pop(pilot.app, LooksUpChild(), turns)
            await pilot.pause()


@pytest.mark.slow
async def test_screens_of_the_app_popped_while_they_are_built() -> None:
    builds: tuple[Callable[[], Screen[Any]], ...] = (
        RunsScreen,
        Palette,
        lambda: Help("home"),
        lambda: AskLine("name", ""),
    )
    async with AppWithoutHome().run_test() as pilot:
        below = pilot.app.screen
        for build, turns in product(builds, range(TURNS_TO_BUILD)):
            screen = build()
            await push_and_pop(pilot.app, screen, turns)
            await pilot.pause()
            assert pilot.app.screen is below, (screen, turns)
        await pilot.press("ctrl+p")
        await pilot.app.workers.wait_for_complete()
        assert pilot.app.screen.query_one(CommandList).option_count > 1


class Faulty(BaseScreen[None], Screen[None]):
    """A screen that looks for a widget it does not have, itself or in a worker."""

    def __init__(self, in_worker: bool) -> None:
        super().__init__()
        self.in_worker = in_worker

    def compose(self) -> ComposeResult:
        yield Vertical()

    def on_mount(self) -> None:
        if self.in_worker:
            self.run_worker(self.look_up(), name="look up")
        else:
            self.query_one(Static)

    async def look_up(self) -> None:
        self.query_one(Static)


@pytest.mark.parametrize("in_worker", [False, True])
async def test_error_in_a_screen_that_stays_ends_the_app(in_worker: bool) -> None:
    with pytest.raises(WorkerFailed if in_worker else NoMatches):
        async with BaseApp().run_test() as pilot:
            pilot.app.push_screen(Faulty(in_worker))
            await pilot.pause()
            await pilot.app.workers.wait_for_complete()
