"""No terminal is too small: one row or column, a screen that asks or lists in it, and then one that is usual again."""

from collections.abc import Callable

import pytest
from textual.geometry import Size
from textual.screen import Screen

from tests.app.fake import lab
from tui_lab.app.app import LabApp
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.runs import RunsScreen
from tui_lab.app.textual_fixes.choices import Palette

SIZES = ((1, 1), (4, 10), (7, 40), (200, 1))


@pytest.mark.parametrize(
    "made", [lambda: Ask("Really?", (Choice("yes", "Yes, with many words"),)), lambda: AskLine("name", "x"), Palette,
             lambda: Help("loss"), RunsScreen]
)  # fmt: skip
async def test_a_screen(made: Callable[[], Screen[object]]) -> None:
    async with LabApp().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(made())
        for size in (*SIZES, (80, 24)):
            await pilot.resize_terminal(*size)
        assert pilot.app.size == Size(80, 24)


async def test_the_lab() -> None:
    async with lab() as it:
        await it.press("2")
        usual = it.painted()
        for size in SIZES:
            await it.pilot.resize_terminal(*size)
            await it.tell()
        await it.pilot.resize_terminal(120, 40)
        await it.press("2")  # What is not shown cannot keep the focus.
        assert it.painted() == usual
