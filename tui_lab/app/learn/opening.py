"""Open the list of lessons, or a lesson at the stage where the student left it."""

from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.lessons.load import BUILTIN, Lesson, find_lesson, lesson_folders, load_lesson
from tui_lab.core.lessons.progress import load_progress
from tui_lab.util.errors import ConfigError, LabError

if TYPE_CHECKING:
    from tui_lab.app.app import LabApp


def open_lessons(app: "LabApp", name: str) -> None:
    """Open the list; with a name, the lesson with this name or in this folder, or the list of those in a folder."""
    from tui_lab.app.learn.list_screen import LearnScreen

    folder = Path(name).expanduser()
    if name and lesson_folders(folder):
        app.push_screen(LearnScreen(folder))
        return
    lesson = None
    if name:
        try:
            lesson = load_lesson(find_lesson(name))
        except ConfigError as error:
            app.notify(str(error), severity="error")
    if not any(isinstance(screen, LearnScreen) for screen in app.screen_stack):
        is_own = lesson is not None and lesson.folder.parent.resolve() != BUILTIN.resolve()
        app.push_screen(LearnScreen(folder if is_own else None))
    if lesson is not None:
        open_lesson(app, lesson)


def open_lesson(app: "LabApp", lesson: Lesson) -> None:
    """Open the lab of a lesson."""
    from tui_lab.app.learn.controller import LessonController
    from tui_lab.app.learn.list_screen import LearnScreen
    from tui_lab.app.learn.screen import LessonScreen
    from tui_lab.app.learn.sources import lesson_source

    progress = load_progress(lesson)
    controller = LessonController(progress)
    try:
        opened = lesson_source(progress, app.clock)
    except LabError as error:
        app.notify(str(error), severity="error")
        return
    for screen in app.screen_stack:
        if isinstance(screen, LearnScreen):
            screen.opened = lesson.name
    app.show_lab(opened.source, lesson=controller)
    lab = app.screen
    if isinstance(lab, LessonScreen):
        lab.prepared = opened.prepared
        lab.prepared_folder = opened.folder
