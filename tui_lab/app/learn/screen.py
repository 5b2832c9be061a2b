"""The lab with the strip of a lesson above its panes."""

from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.widgets import Input

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.learn.controller import LessonController
from tui_lab.app.learn.sources import NoRun
from tui_lab.app.learn.strip import LessonStrip, NumberField, SentenceField
from tui_lab.app.learn.strip_text import FocusPlace
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.screens.lab_footer import LabFooter
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import NO_RUN
from tui_lab.app.widgets.footer import FooterItem

TALL_FROM, SIDE_FROM = 36, 160
"""Lines and columns of the terminal from which the strip has more lines, and stands at the side."""
LINES, TALL_LINES, LEAST_LINES = 7, 12, 3
"""Of the strip's text."""
LINES_BELOW = 16
"""Of the terminal, that are left to the pane and the lines around it."""
SIDE_WIDTH, SIDE_MARGIN = 49, 8
WITHOUT_ENTER = (2, 3, 5, 7)
"""Numbers of the panes that do nothing with Enter."""
STAGES = (FooterItem("n", "n", "Next"), FooterItem("p", "p", "Back"))
LESSONS = FooterItem("w", "w", "Lessons")
ALWAYS = (FooterItem("question_mark", "?", "Help"), FooterItem("q", "q", "Quit"))


class LessonFooter(LabFooter):
    """The keys of the lesson, and after them those of the lab."""

    def __init__(self, lab: "LessonScreen") -> None:
        super().__init__(lab)
        self._lesson = lab

    def items(self) -> list[FooterItem]:
        focused = self._lesson.focused
        if isinstance(focused, NumberField):
            to_pane = FooterItem("escape", "Esc", "To the pane")
            return [FooterItem("enter", "Enter", "Answer"), *STAGES, to_pane, LESSONS, *ALWAYS]
        if isinstance(focused, SentenceField):
            return [FooterItem("enter", "Enter", "Split it, go on"), FooterItem("escape", "Esc", "To the pane")]
        if isinstance(focused, Input):
            return super().items()
        if focused is self._lesson.strip:
            n_choices = self._lesson.strip.n_choices
            enter = FooterItem("enter", *((f"1–{n_choices}", "Answer") if n_choices else ("Enter", "Go on")))
            glossary = [FooterItem("g", "g", "Glossary")] if self._lesson.controller.links.exist else []
            command = [FooterItem("y", "y", "Copy")] if self._lesson.command else []
            return [enter, *STAGES, *command, *glossary, FooterItem("escape", "Esc", "To the pane"), LESSONS, *ALWAYS]
        keys = {item.key for item in (*STAGES, LESSONS, *ALWAYS)}
        of_lab = [item for item in super().items() if item.key not in keys]
        items = [*STAGES, FooterItem("escape", "Esc", "To the lesson"), *of_lab, LESSONS, *ALWAYS]
        while sum(item.width for item in items) > self._lesson.app.size.width and len(items) > len(ALWAYS) + 3:
            del items[-len(ALWAYS) - 2]
        return items


class LessonScreen(LabScreen):
    """Shows a run of a lesson. prepared: the id of the stage whose run was opened paused, in `prepared_folder`."""

    CSS_PATH = [Path(__file__).parents[1] / "screens" / "lab.tcss", Path(__file__).with_name("learn.tcss")]
    BINDINGS = named(
        "lesson",
        Binding("n", "next_stage", "Next stage", show=False, priority=True),
        Binding("p", "previous", "Previous page or stage", show=False, priority=True),
        Binding("enter", "enter", "Go on", show=False),
        Binding("escape", "to_strip", "To the lesson", show=False, priority=True),
    )

    prepared = ""
    prepared_folder: Path | None = None

    def __init__(self, controller: LessonController, source: Source, *args: Any, **options: Any) -> None:
        super().__init__(source, *args, **options)
        self.controller = controller
        self.strip = LessonStrip(id="lesson")
        self.frames.footer = LessonFooter(self)
        self.lesson = controller

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            if widget is self.area:
                yield self.strip
            yield widget

    def on_mount(self) -> None:
        if isinstance(self.source, NoRun):
            self.state.doing = NO_RUN
        self._fit()
        self.call_later(self.controller.attach, self)

    def on_unmount(self) -> None:
        self.controller.detach(self)

    def tick(self) -> None:
        super().tick()
        if self.controller.is_attached_to(self):
            self.controller.follow()

    def _applies(self, command_id: str, phase: str | None = None) -> bool:
        has_run = not isinstance(self.source, NoRun)
        return (has_run or command_id != "pause") and super()._applies(command_id, phase)

    # The strip

    @property
    def room(self) -> tuple[int, int]:
        """Columns and lines that the text of a page has."""
        size = self.app.size
        if self.has_class("-side"):
            return SIDE_WIDTH, size.height - SIDE_MARGIN
        lines = TALL_LINES if self.has_class("-tall") else max(LEAST_LINES, min(LINES, size.height - LINES_BELOW))
        return size.width - 2, lines

    @property
    def bar_width(self) -> int:
        return SIDE_WIDTH + 2 if self.has_class("-side") else self.app.size.width

    @property
    def command(self) -> str:
        """The stage's command for another terminal; empty if it has none."""
        return self.controller.progress.command(self.controller.guide.stage)

    @property
    def focus_place(self) -> FocusPlace:
        """Where the focus is, for what Enter does there."""
        if self.strip.has_focus_within or self.strip.has_focus:
            return "strip"
        if isinstance(self.focused, Input):
            return "field"
        return "free pane" if self.active_pane.number in WITHOUT_ENTER else "pane"

    def _fit(self) -> None:
        size = self.app.size
        self.set_class(size.width >= SIDE_FROM and size.height >= TALL_FROM, "-side")
        self.set_class(size.height >= TALL_FROM, "-tall")

    def on_resize(self, event: Resize) -> None:
        self._fit()
        if self.controller.is_attached_to(self):
            self.controller.draw_strip()

    def on_lesson_strip_answered(self, message: LessonStrip.Answered) -> None:
        self.controller.answer(message.given)

    def on_lesson_strip_sentence_typed(self, message: LessonStrip.SentenceTyped) -> None:
        self.controller.sentence_typed(message.sentence)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("next_stage", "previous"):
            return not isinstance(self.focused, Input) or isinstance(self.focused, NumberField)
        if action == "to_strip":  # A field, and the cursor of the chart, have Esc first.
            reads_values = self.active_pane is self.loss_pane and self.loss_pane.cursor is not None
            return not isinstance(self.focused, Input) and (self.strip.has_focus or not reads_values)
        return super().check_action(action, parameters)

    def action_next_stage(self) -> None:
        self.controller.next_stage()

    def action_previous(self) -> None:
        self.controller.previous()

    def action_enter(self) -> None:
        self.controller.enter()

    def action_to_strip(self) -> None:
        """Give the focus to the strip, or from there to the pane."""
        if self.strip.has_focus:
            self.action_leave_strip()
        else:
            self.set_focus(self.strip)

    def action_leave_strip(self) -> None:
        self.go_to(self.active_pane.number)

    def action_next_term(self) -> None:
        term = self.controller.links.next_term()
        if term is None:
            self.notify("This text has no term of the glossary.")
        else:
            self.action_glossary(term)

    def action_glossary(self, term: str) -> None:
        """Open the glossary at a term."""
        self.app.push_screen(Help("glossary", self.state.run_config, term=term))

    def action_do(self, id: str) -> None:
        if id == "home":
            self.post_message(self.Close(self, "home"))  # The lesson is taken up again where it was left.
        elif id == "copy" and self.strip.has_focus and self.command:
            copy(self.app, self.command)
        else:
            super().action_do(id)

    def diagnose_lesson(self) -> None:
        """Ask the doctor about the run, with the focus still on the strip."""
        self.action_do("diagnose")
        self.set_focus(self.strip)
