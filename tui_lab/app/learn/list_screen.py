"""The list of lessons, each with how far the student has come."""

from collections.abc import Sequence
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.message import Message
from textual.screen import Screen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.keymap import named
from tui_lab.app.screens.help import Help
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.core.lessons.load import Lesson, list_lessons
from tui_lab.core.lessons.progress import FINISHED, Progress, index_to_continue, load_progress
from tui_lab.util.errors import ConfigError

TITLE = "Lessons: real runs, trained while you watch"
TITLE_WIDTH, STATE_WIDTH = 34, 16
WIDTH_BEFORE_SUMMARY = 2 + TITLE_WIDTH + STATE_WIDTH + 6
"""With the margins of the list."""


class LessonChoices(Choices):
    """The list, whose Enter is in the footer."""

    BINDINGS = [Binding("enter", "select", "Open")]


class LearnScreen(BaseScreen[None], Screen[None]):
    """folder: whose lessons are listed; None: those of tui-lab."""

    CSS_PATH = "list.tcss"
    BINDINGS = named(
        "lessons",
        Binding("B", "begin_again", "Begin again"),
        Binding("escape,w", "app.pop_screen", "Home"),
        Binding("question_mark,f1", "help", "Help"),
        Binding("q", "app.quit", "Quit"),
    )

    class Picked(Message):
        """The student opened a lesson."""

        def __init__(self, lesson: Lesson) -> None:
            super().__init__()
            self.lesson = lesson

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self._folder = folder
        self._lessons: list[Lesson] = []
        self.opened = ""
        """The name of the lesson that the student comes back from; empty while the list is shown."""

    def compose(self) -> ComposeResult:
        yield Static(TITLE, id="title")
        yield LessonChoices(id="choices")
        yield Static(id="about")
        yield KeyLine()

    def on_mount(self) -> None:
        try:
            self._lessons = list_lessons(self._folder)
        except ConfigError as error:
            self.query_one("#about", Static).update(Text(str(error)))
        self.query_one(Choices).focus()

    def on_screen_resume(self) -> None:
        # A lesson may have been opened over the list before this message comes.
        is_back = bool(self.opened) and self.app.screen is self
        if is_back:
            self.query_one(Choices).highlighted = None
        self.load()
        if is_back:
            self.opened = ""

    def on_resize(self, event: Resize) -> None:
        self.load()

    def load(self) -> None:
        """List the lessons; what is selected stays selected."""
        choices = self.query_one(Choices)
        all_progress = [load_progress(lesson) for lesson in self._lessons]
        highlighted = choices.highlighted
        choices.clear_options()
        longest = max((len(lesson.file.summary) for lesson in self._lessons), default=0)
        with_summary = longest <= self.app.size.width - WIDTH_BEFORE_SUMMARY
        choices.add_options(Option(lesson_line(each, with_summary=with_summary)) for each in all_progress)
        if self._lessons:
            choices.highlighted = self._to_select(all_progress) if highlighted is None else highlighted

    def _to_select(self, all_progress: Sequence[Progress]) -> int:
        """Return the lesson that the student comes from, unless it is finished; otherwise the one to go on with."""
        opened = [i for i, each in enumerate(all_progress) if each.lesson.name == self.opened]
        is_open = opened and all_progress[opened[0]].place != FINISHED
        return opened[0] if is_open else index_to_continue(all_progress)

    @property
    def _selected(self) -> Lesson | None:
        highlighted = self.query_one(Choices).highlighted
        return None if highlighted is None else self._lessons[highlighted]

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        lesson = self._lessons[event.option_index]
        about = f"{lesson.file.summary}\nAbout {lesson.file.minutes} minutes, {len(lesson.stages)} stages."
        self.query_one("#about", Static).update(Text(about))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.post_message(self.Picked(self._lessons[event.option_index]))

    def action_begin_again(self) -> None:
        """Forget the answers and the runs of the lesson, and open it."""
        if (lesson := self._selected) is not None:
            progress = load_progress(lesson)
            progress.begin_again()
            progress.save()
            self.post_message(self.Picked(lesson))

    def action_help(self) -> None:
        self.app.push_screen(Help("lessons"))


def lesson_line(progress: Progress, *, with_summary: bool) -> Text:
    """Return a lesson as a line: its title, how far the student has come, and what it is about if there is room."""
    lesson = progress.lesson
    number = lesson.name.partition("-")[0]
    title = f"{number} {lesson.title}" if number.isdigit() else lesson.title
    return Text.assemble(
        (f"  {title:<{TITLE_WIDTH}}", "bold"),
        f"{state_text(progress):<{STATE_WIDTH}}",
        lesson.file.summary if with_summary else "",
        no_wrap=True,
    )


def state_text(progress: Progress) -> str:
    """Return where the student is in a lesson, or how long one takes that was never started."""
    place = progress.place or f"{progress.lesson.file.minutes} min"
    return f"✓ {place}" if place == FINISHED else place
