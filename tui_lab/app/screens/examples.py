"""The examples screen: the hardest examples of a run, those most often wrong, duplicates, and where the loss lies."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import DataTable, Static

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.panes.batch_text import cell_details
from tui_lab.app.panes.cells import Cells, Example
from tui_lab.app.panes.copied import example_text
from tui_lab.app.panes.recorded_batch import RowLosses
from tui_lab.app.screens.examples_table import ExamplesTable, all_listed
from tui_lab.app.screens.help import Help
from tui_lab.app.session.examples_process import Answered, Message, Question, Working
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.config.script import RunConfig
from tui_lab.core.examples.report import Place, ShownExample
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.runs.examples_text import PART_NAMES, facts, figures_text, place_text, title
from tui_lab.util.escape import printable

SECONDS_BETWEEN_TICKS = 0.2
TALL = 32
"""From this height on, the tokens of the selected example are below the list."""
VIEWS = {"loss": "Hardest", "wrong": "Most often wrong", "duplicates": "Duplicates", "classes": "Loss by class"}
FIRST_TARGETS = {"loss": 2**14, "wrong": 2**16, "duplicates": 2**17, "classes": 2**14}
"""Positions that are measured at first."""
MORE = 4
"""How many times as many positions are measured when the user asks for more."""


class Asker(Protocol):
    """Answers questions in the background; see `ExamplesProcess`."""

    def ask(self, question: Question, *, live: bool) -> None: ...
    def drain(self) -> list[Message]: ...
    def stop(self) -> None: ...


class ExampleCells(Cells):
    """The tokens of the listed examples, which stay in the order of the list."""

    BINDINGS = [Binding("m", "screen.more", "More")]


class ExamplesScreen(BaseScreen[None], Screen[None]):
    """Asks `asker` one question at a time; answers stay until the user asks again."""

    CSS_PATH = "examples.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-short"), (TALL, "-tall")]
    BINDINGS = named(
        "examples",
        Binding("tab", "view(1)", "View"),
        Binding("shift+tab", "view(-1)", "Previous view", show=False),
        Binding("v", "part", "Train/val"),
        Binding("m", "more", "More"),
        Binding("r", "again", "Again"),
        Binding("y", "copy", "Copy", show=False),
        Binding("question_mark,f1", "help", "Help"),
        Binding("escape,q", "back", "Back"),
    )

    def __init__(
        self,
        name: str,
        asker: Asker,
        config: RunConfig | None,
        *,
        live: Callable[[], bool] = lambda: False,
        step: Callable[[], int | None] = lambda: None,
    ) -> None:
        """live: whether the run trains in this process. step: the one that a replay shows; None for the newest."""
        super().__init__()
        self._run = name
        self._asker = asker
        self._config = config
        self._live = live
        self._step = step
        self.by = "loss"
        self.part = "train"
        self._targets = dict(FIRST_TARGETS)
        self._answers: dict[tuple[str, str], Answered] = {}
        self._working: Working | None = None
        self._starts: list[int] = []
        """Of each row of the table, its first example among the cells."""
        self._hardest: list[int] = []
        """Of each row of the table, the position of its largest loss."""

    def compose(self) -> ComposeResult:
        yield Static(id="views")
        yield Static(id="about")
        yield ExamplesTable(id="table")
        yield ExampleCells(id="tokens")
        yield Static(id="cell")
        yield KeyLine()

    @property
    def table(self) -> ExamplesTable:
        return self.query_one(ExamplesTable)

    @property
    def cells(self) -> Cells:
        return self.query_one(Cells)

    @property
    def answer(self) -> Answered | None:
        """The answer to what is shown; None while it is measured."""
        return self._answers.get((self.by, self.part))

    def on_mount(self) -> None:
        self.table.focus()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self._ask()

    def on_unmount(self) -> None:
        self._asker.stop()

    def _ask(self) -> None:
        """Ask what is shown, unless it has been answered."""
        if self.answer is None:
            question = Question(self.by, self.part, self._targets[self.by], self._step())
            self._asker.ask(question, live=self._live())
        self.tick()
        self.redraw()

    def tick(self) -> None:
        """Take what was answered since the last tick."""
        if not self.is_attached:
            return
        messages = self._asker.drain()
        for message in messages:
            question = message.question
            if isinstance(message, Answered):
                self._answers[question.by, question.part] = message
                self._working = None
            else:
                self._working = message
        if any(isinstance(message, Answered) for message in messages):
            self.redraw()
        elif messages:
            update_text(self.query_one("#about", Static), self._about())

    # Drawing

    def redraw(self) -> None:
        answer = self.answer
        update_text(self.query_one("#views", Static), views_text(self.by))
        update_text(self.query_one("#about", Static), self._about())
        report = None if answer is None else answer.report
        self.table.fill(report)
        examples: list[Example] = []
        self._starts = []
        self._hardest = []
        if answer is not None and report is not None and answer.tokenizer is not None:
            for listed in all_listed(report):
                self._starts.append(len(examples))
                self._hardest.append(next((t for t, _ in listed.example.hardest_targets(1)), 0))
                examples.append(
                    _cells_of(listed.example, facts(listed, with_loss=False), len(examples), answer.tokenizer)
                )
                for place in () if listed.copies is None else listed.copies.places:
                    examples.append(_cells_of(place, place_text(place), len(examples), answer.tokenizer))
        self.set_class(not examples, "-no-example")
        if not examples:
            self._close()
        self.cells.show_examples(examples)
        self._select()

    def _about(self) -> Text:
        """Return what is shown, its figures, and how far a measurement is or what was measured."""
        answer = self.answer
        if answer is not None and answer.report is not None:
            report = answer.report
            last = " ".join(report.notes)
            lines = [(title(report), "bold"), (figures_text(report), ""), (last, "dim")]
        else:
            problem = "" if answer is None else answer.problem
            what = f"{VIEWS[self.by].lower()}, {PART_NAMES[self.part]}"
            lines = [(what, "bold"), (problem or progress_text(self._working), "" if problem else "italic"), ("", "")]
        text = Text(no_wrap=True, overflow="ellipsis")
        for number, (line, style) in enumerate(lines):
            text.append("\n" if number else "").append(printable(line.replace("\n", " ")), style)
        return text

    def _select(self) -> None:
        """Show the tokens of the selected example."""
        row = self.table.cursor_row
        if 0 <= row < len(self._starts):
            self.cells.go_to(self._starts[row], self._hardest[row])
        self._show_details()

    def _show_details(self) -> None:
        example = self.cells.example
        text = Text()
        if example is not None and self._starts:
            t = self.cells.selected
            name = example.name.partition(", ")[0]
            text = cell_details(f"{name}, t = {t}", example, t, self.size.width - 2)
        update_text(self.query_one("#cell", Static), text)

    @on(DataTable.RowHighlighted)
    def _row_highlighted(self) -> None:
        self._select()

    def on_cells_selected(self) -> None:
        self._show_details()

    # Keys

    @on(DataTable.RowSelected)
    def _open(self) -> None:
        if self._starts:
            self.add_class("-open")
            self.set_focus(self.cells)

    def _close(self) -> None:
        self.remove_class("-open")
        self.set_focus(self.table)

    def action_view(self, by: int) -> None:
        views = list(VIEWS)
        self.by = views[(views.index(self.by) + by) % len(views)]
        self._close()
        self._ask()

    def action_part(self) -> None:
        self.part = "val" if self.part == "train" else "train"
        self._ask()

    def action_more(self) -> None:
        """Measure more examples, unless all are measured already."""
        answer = self.answer
        report = None if answer is None else answer.report
        if report is not None and report.sample is not None and report.sample.seed is None:
            self.notify("All examples are measured.")
            return
        self._targets[self.by] *= MORE
        self.action_again()

    def action_again(self) -> None:
        self._answers.pop((self.by, self.part), None)
        self._ask()

    def action_copy(self) -> None:
        example = self.cells.example if self._starts else None
        copy(self.app, "" if example is None else example_text(f"{self._run}, {example.name}", example))

    def action_help(self) -> None:
        self.app.push_screen(Help("examples", self._config))

    def action_back(self) -> None:
        """Leave the tokens of an example, then the screen."""
        if self.cells.has_focus:
            self._close()
        else:
            self.dismiss(None)


def _cells_of(example: ShownExample | Place, name: str, row: int, tokenizer: Tokenizer) -> Example:
    """Return an example as the batch pane shows it."""
    losses = None
    if isinstance(example, ShownExample) and example.losses:
        values = np.array([np.nan if loss is None else loss for loss in example.losses], np.float32)
        top = np.array(example.top, np.int64).reshape(len(values), -1)
        losses = RowLosses(values, top, np.array(example.probabilities, np.float32).reshape(len(values), -1))
    x, y = np.array(example.x, np.int64), np.array(example.y, np.int64)
    return Example(tokenizer, False, x, y, losses, row, name)


def views_text(shown: str) -> Text:
    """Return the names of the views, the one that is shown highlighted."""
    text = Text("examples  ", "bold", no_wrap=True, overflow="ellipsis")
    for by, name in VIEWS.items():
        text.append(f" {name} ", "reverse" if by == shown else "dim").append(" ")
    return text


def progress_text(working: Working | None) -> str:
    """Return how far a measurement is."""
    if working is None:
        return "starting"
    percent = f" {100 * working.done // working.total} %" if working.total else ""
    return f"{working.what}{percent} (in a separate process)"
