"""No terminal is too small: one row or column does no harm, and a usual size afterwards looks as before."""

from collections.abc import Callable

import pytest
from textual.app import App
from textual.geometry import Size
from textual.screen import Screen

from tests.app.fake import AppWithoutHome, lab
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Home
from tui_lab.app.screens.runs.screen import RunsScreen
from tui_lab.app.textual_fixes.base_app import BaseApp
from tui_lab.app.textual_fixes.palette import Palette

SIZES = ((1, 1), (4, 10), (7, 40), (200, 1))


@pytest.mark.parametrize("app_type", plain_and_fixed(App, BaseApp, raises=Exception))
async def test_dialog_in_a_tiny_terminal(app_type: type[App[None]]) -> None:
    async with app_type().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(Ask("Really?", (Choice("yes", "Yes, with many words"),)))
        for size in (*SIZES, (80, 24)):
            await pilot.resize_terminal(*size)
        assert pilot.app.size == Size(80, 24)


@pytest.mark.parametrize(
    "build",
    [
        lambda: AskLine("name", "x"),
        Home,
        *(pytest.param(build, marks=pytest.mark.slow) for build in (Palette, lambda: Help("loss"), RunsScreen)),
    ],
)
async def test_screens_of_the_app_in_a_tiny_terminal(build: Callable[[], Screen[object]]) -> None:
    async with AppWithoutHome().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(build())
        for size in (*SIZES, (80, 24)):
            await pilot.resize_terminal(*size)
        assert pilot.app.size == Size(80, 24)


async def test_lab_looks_as_before_after_a_tiny_terminal() -> None:
    async with lab() as it:
        await it.press("2")
        before = it.painted()
        for size in SIZES:
            await it.pilot.resize_terminal(*size)
            await it.tell()
        await it.pilot.resize_terminal(120, 40)
        await it.press("2")  # A hidden pane loses the focus.
        assert it.painted() == before
