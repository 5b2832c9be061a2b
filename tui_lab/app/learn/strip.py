"""The strip of a lesson: the text of the stage, its question, and a bar that says what Enter does."""

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, Static

from tui_lab.app.keymap import named
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.static_text import update_text

OF_NUMBERS = "-+0123456789.,eE"
"""The characters of a number as people type it."""


class NumberField(Field):
    """Takes a guess. It leaves the characters that no number has, such as n and p, to the lesson's keys."""

    BINDINGS = [Binding("escape", "screen.leave_strip", "To the pane")]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, restrict=rf"[{OF_NUMBERS}]*", max_length=20, placeholder="your guess")

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return character is not None and character in OF_NUMBERS

    async def _on_key(self, event: Key) -> None:
        if event.is_printable and not self.check_consume_key(event.key, event.character):
            event.prevent_default()  # Input would take it, and refuse it.
            return
        await super()._on_key(event)


class SentenceField(Field):
    """Takes a sentence of the student's own."""

    BINDINGS = [Binding("escape", "screen.leave_strip", "To the pane")]

    def __init__(self, id: str) -> None:
        super().__init__(id=id, max_length=200)


class LessonStrip(Vertical, can_focus=True):
    """Shows what it is given; its keys are messages to the screen."""

    BINDINGS = named(
        "lesson",
        Binding("1", "answer(1)", "Answer 1", show=False),
        Binding("2", "answer(2)", "Answer 2", show=False),
        Binding("3", "answer(3)", "Answer 3", show=False),
        Binding("4", "answer(4)", "Answer 4", show=False),
        Binding("g", "screen.next_term", "Glossary", show=False),
    )

    class Answered(Message):
        """given: the number of a choice from 1, or a guess."""

        def __init__(self, given: float) -> None:
            super().__init__()
            self.given = given

    class SentenceTyped(Message):
        """A sentence is to be split."""

        def __init__(self, sentence: str) -> None:
            super().__init__()
            self.sentence = sentence

    n_choices = 0
    """How many of the keys 1 to 4 are answers now."""

    def compose(self) -> ComposeResult:
        yield Static(id="lesson-body")
        yield NumberField(id="lesson-guess")
        yield SentenceField(id="lesson-sentence")
        yield Static(id="lesson-bar")

    @property
    def field(self) -> Field | None:
        """The field that the page has, if it has one."""
        return next((field for field in (self.guess, self.sentence) if field.display), None)

    @property
    def guess(self) -> NumberField:
        return self.query_one(NumberField)

    @property
    def sentence(self) -> SentenceField:
        return self.query_one(SentenceField)

    def show(self, body: Text, bar: Text, *, asks_number: bool, sentence: str | None = None) -> None:
        """Show a page. sentence: what its field for a sentence holds first; None: it has none."""
        update_text(self.query_one("#lesson-body", Static), body, layout=True)
        update_text(self.query_one("#lesson-bar", Static), bar)
        if self.guess.display != asks_number:
            self.guess.display = asks_number
            self.guess.value = ""
        if self.sentence.display != (sentence is not None):
            self.sentence.display = sentence is not None
            self.sentence.value = sentence or ""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self.n_choices) if action == "answer" else True

    def action_answer(self, number: int) -> None:
        self.post_message(self.Answered(number))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input is self.sentence:
            self.post_message(self.SentenceTyped(event.value.strip()))
            return
        try:
            self.post_message(self.Answered(float(event.value.replace(",", "."))))
        except ValueError:
            self.notify("Type a number, such as 2.5.")
