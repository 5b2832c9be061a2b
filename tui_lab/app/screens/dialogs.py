"""Dialogs: select one of a few choices, or type a line."""

from collections.abc import Callable
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.widgets.input import Field

LONGEST_NAME = 100
"""Columns of a run's name in a question, which may have several lines."""

SECONDS_BETWEEN_QUESTIONS = 0.5
"""How often a dialog about a run in progress is updated."""


@dataclass(frozen=True)
class Choice:
    """A choice of a dialog; `id` is the dialog's result."""

    id: str
    text: str


class Ask(BaseScreen[str | None], ModalScreen[str | None]):
    """Returns the id of the selected choice, or None after Escape."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel")]
    _keys = "Enter choose · Esc cancel"

    def __init__(self, question: str, choices: tuple[Choice, ...]) -> None:
        super().__init__()
        self._question = question
        self._choices = choices

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._question, id="question", markup=False)
            yield Choices(*(Option(choice.text, id=choice.id) for choice in self._choices))

    def on_mount(self) -> None:
        self.query_one("#box").border_subtitle = self._keys

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id)


class AskToClose(Ask):
    """Takes the first choice if the key that asked is pressed again.

    question: () → what is asked now, since the run continues; None if it has ended, which closes the dialog.
    """

    BINDINGS = [Binding("q,w,ctrl+c", "first", "First choice")]
    _keys = "Enter choose · q first choice · Esc cancel"

    def __init__(self, question: Callable[[], str | None], choices: tuple[Choice, ...]) -> None:
        super().__init__(question() or "", choices)
        self._question_now = question

    def on_mount(self) -> None:
        self.set_interval(SECONDS_BETWEEN_QUESTIONS, self.ask_again)

    def ask_again(self) -> None:
        """Show what is asked now, or close."""
        question = self._question_now()
        if not self.is_current:
            return
        if question is None:
            self.dismiss(None)
        else:
            self.query_one("#question", Static).update(question)

    def action_first(self) -> None:
        self.dismiss(self._choices[0].id)


class AskLine(BaseScreen[str | None], ModalScreen[str | None]):
    """Returns the typed line, or None after Escape. An empty line counts as Escape unless `may_be_empty`.

    enter: what Enter does.
    """

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, question: str, value: str, *, enter: str = "save", may_be_empty: bool = False) -> None:
        super().__init__()
        self._question = question
        self._value = value
        self._enter = enter
        self._may_be_empty = may_be_empty

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(self._question, id="question", markup=False)
            yield Field(self._value)

    def on_mount(self) -> None:
        self.query_one("#box").border_subtitle = f"Enter {self._enter} · Esc cancel"

    def on_input_submitted(self, event: Input.Submitted) -> None:
        typed = event.value.strip()
        self.dismiss(typed if typed or self._may_be_empty else None)
