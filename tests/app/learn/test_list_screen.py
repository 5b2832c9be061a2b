"""The list of lessons: which one is selected."""

import os
from pathlib import Path

import pytest

from tests.app.fake import AppWithoutHome
from tests.core.lessons.example import write
from tui_lab.app.app import LabApp
from tui_lab.app.learn.list_screen import LearnScreen
from tui_lab.app.screens.help import Help
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.core.lessons.load import load_lesson
from tui_lab.core.lessons.progress import PROGRESS, Progress, load_progress

NAMES = ("1-first", "2-second", "3-third")


@pytest.fixture
def course(tmp_path: Path) -> Path:
    folder = tmp_path / "course"
    for name in NAMES:
        write(folder / name)
    return folder


def worked_on(course: Path, name: str, at: int, *, finished: bool = False) -> Progress:
    """The student was in a lesson, at a time in seconds."""
    progress = load_progress(load_lesson(course / name))
    progress.go_to(progress.lesson.stages[-1 if finished else 1].id)
    if finished:
        progress.finish()
    progress.save()
    os.utime(progress.folder / PROGRESS, (at, at))
    return progress


def selected(app: LabApp) -> int | None:
    return app.screen.query_one(Choices).highlighted


async def test_list_begins_with_the_lesson_to_go_on_with(course: Path) -> None:
    worked_on(course, "1-first", at=100)
    worked_on(course, "3-third", at=200)
    app = AppWithoutHome()
    async with app.run_test(size=(80, 24)) as pilot:
        await app.push_screen(LearnScreen(course))
        await pilot.pause()
        assert selected(app) == 2


async def test_list_behind_a_lesson_that_is_opened_with_it_selects_the_next_one(course: Path) -> None:
    app = AppWithoutHome()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = LearnScreen(course)
        app.push_screen(screen)
        screen.opened = "1-first"
        app.push_screen(Help("lessons"))  # Stands for the lesson.
        await pilot.pause()
        worked_on(course, "1-first", at=100, finished=True)
        await pilot.press("escape")
        assert app.screen is screen and selected(app) == 1


async def test_cursor_stays_behind_help_and_follows_a_lesson_that_was_left(course: Path) -> None:
    app = AppWithoutHome()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = LearnScreen(course)
        await app.push_screen(screen)
        await pilot.press("down")
        await app.push_screen(Help("lessons"))
        await pilot.press("escape")
        assert app.screen is screen and selected(app) == 1

        await app.push_screen(Help("lessons"))
        screen.opened = "1-first"
        worked_on(course, "1-first", at=100)
        await pilot.press("escape")
        assert selected(app) == 0, "back from this lesson"

        await app.push_screen(Help("lessons"))
        screen.opened = "1-first"
        worked_on(course, "1-first", at=200, finished=True)
        await pilot.press("escape")
        assert selected(app) == 1, "the one after a lesson that is finished"
