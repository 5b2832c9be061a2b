"""A screen that is dismissed twice takes no other screen with it."""

from typing import Any

import pytest
from textual.app import App
from textual.screen import Screen

from tests.app.fake import AppWithoutHome
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.runs.screen import RunsScreen
from tui_lab.app.textual_fixes.base_screen import BlankScreen
from tui_lab.app.textual_fixes.palette import Palette

CHOICES = (Choice("yes", "Yes"), Choice("no", "No"))


@pytest.mark.parametrize("screen_type", plain_and_fixed(Screen, BlankScreen))
async def test_second_dismiss_leaves_the_screen_below(screen_type: type[Screen[None]]) -> None:
    async with App[None]().run_test() as pilot:
        below = screen_type()
        await pilot.app.push_screen(below)
        screen = screen_type()
        await pilot.app.push_screen(screen)
        screen.dismiss(None)
        screen.dismiss(None)
        await pilot.pause()
        assert pilot.app.screen is below


async def test_screens_of_the_app_dismissed_twice() -> None:
    screens: tuple[Screen[Any], ...] = (RunsScreen(), Palette(), Help("home"), AskLine("name", ""))
    async with AppWithoutHome().run_test() as pilot:
        below = pilot.app.screen
        for screen in screens:
            await pilot.app.push_screen(screen)
            screen.dismiss(None)
            screen.dismiss(None)
            await pilot.pause()
            assert pilot.app.screen is below, screen


async def test_first_answer_of_a_dialog_counts() -> None:
    async with AppWithoutHome().run_test() as pilot:
        answers: list[str | None] = []

        async def ask() -> None:
            answers.append(await pilot.app.push_screen_wait(Ask("Really?", CHOICES)))

        pilot.app.run_worker(ask())
        await pilot.pause()
        dialog = pilot.app.screen
        assert isinstance(dialog, Ask)
        dialog.dismiss("yes")
        dialog.dismiss(None)
        await pilot.app.workers.wait_for_complete()
        assert answers == ["yes"]
