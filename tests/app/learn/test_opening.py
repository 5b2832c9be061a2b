"""What is opened for the name or the folder of a lesson."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.app.learn.test_guide import SMALL
from tui_lab.app.app import LabApp
from tui_lab.app.learn import opening
from tui_lab.app.learn.list_screen import LearnScreen
from tui_lab.core.lessons.load import Lesson, list_lessons


@pytest.mark.parametrize("name", [str(SMALL), "3", ""])
def test_list_behind_a_lesson_is_that_of_its_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Lesson] = []
    pushed: list[Any] = []
    monkeypatch.setattr(opening, "open_lesson", lambda app, lesson: opened.append(lesson))
    app = SimpleNamespace(screen_stack=[], push_screen=pushed.append)
    opening.open_lessons(cast(LabApp, app), name)
    (screen,) = pushed
    assert isinstance(screen, LearnScreen)
    folder: Path | None = screen._folder
    expected = list_lessons(SMALL if name == str(SMALL) else None)
    assert [each.name for each in list_lessons(folder)] == [each.name for each in expected]
    assert len(opened) == bool(name)
