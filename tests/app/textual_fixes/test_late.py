"""What comes too late does no harm; a fault of a screen that stays is told."""

import asyncio
from collections.abc import Callable

import pytest
from textual.app import ComposeResult
from textual.binding import Binding
from textual.command import CommandList
from textual.containers import Vertical
from textual.css.query import NoMatches
from textual.events import Click, Key, MouseDown, MouseEvent
from textual.screen import Screen
from textual.widgets import Static
from textual.worker import WorkerFailed

from tui_lab.app.app import LabApp
from tui_lab.app.screens.dialogs import AskLine
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.runs import RunsScreen
from tui_lab.app.textual_fixes.choices import Palette
from tui_lab.app.textual_fixes.steady import Steady
from tui_lab.app.widgets.chart import Chart, Curve

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


def pressed(kind: type[MouseEvent], x: int, y: int) -> MouseEvent:
    return kind(None, x, y, 0, 0, 1, shift=False, meta=False, ctrl=False, screen_x=x, screen_y=y)


async def test_a_click_beside_the_palette_closes_it_and_one_beside_the_terminal_does_nothing() -> None:
    async with LabApp().run_test(size=(20, 5)) as pilot:
        await pilot.press("ctrl+p")
        palette = pilot.app.screen
        palette.post_message(pressed(Click, 20, 5))
        await pilot.pause()
        assert pilot.app.screen is palette
        palette.post_message(pressed(Click, 0, 0))
        await pilot.pause()
        assert pilot.app.screen is not palette


async def test_a_search_for_themes_goes_once() -> None:
    async with LabApp().run_test() as pilot:
        below = pilot.app.screen
        pilot.app.search_themes()
        await pilot.pause()
        searching = pilot.app.screen
        for _ in range(2):
            searching.post_message(pressed(Click, 0, 0))
        await pilot.pause()
        assert pilot.app.screen is below


class Charted(Steady[None], Screen[None]):
    def compose(self) -> ComposeResult:
        yield Chart(id="chart")


async def test_a_press_on_a_chart_beside_the_terminal() -> None:
    async with LabApp().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(Charted())
        chart = pilot.app.screen.query_one(Chart)
        chart.draw([Curve("loss", [(0, 1), (1, 2)], "green")])
        chart.post_message(pressed(MouseDown, 80, 10))
        await pilot.pause()
        assert chart.is_running


class Slow(Steady[None], Screen[None]):
    """A screen that is made when it is let, with a key that acts at once."""

    BINDINGS = [Binding("x", "mark", "Mark", priority=True)]

    def __init__(self) -> None:
        super().__init__()
        self.let, self.marked = asyncio.Event(), False

    def compose(self) -> ComposeResult:
        yield Static("one line")

    async def on_mount(self) -> None:
        await self.let.wait()

    def action_mark(self) -> None:
        self.marked = True


async def test_a_key_waits_for_the_screen_that_it_goes_to() -> None:
    async with LabApp().run_test() as pilot:
        screen = Slow()
        pilot.app.post_message(Key("x", "x"))
        pilot.app.push_screen(screen)
        for _ in range(50):
            await asyncio.sleep(0)
        too_soon = screen.marked
        screen.let.set()
        await pilot.pause()
        assert screen.marked and not too_soon


async def test_a_press_on_what_is_taken_away_but_still_seen() -> None:
    async with LabApp().run_test() as pilot:
        screen = Slow()
        screen.let.set()
        await pilot.app.push_screen(screen)
        await pilot.pause()
        await pilot.app.screen.query_one(Static).remove()
        pilot.app.screen._forward_event(pressed(MouseDown, 2, 0))
        await pilot.pause()
        assert not pilot.app.screen.query(Static)
