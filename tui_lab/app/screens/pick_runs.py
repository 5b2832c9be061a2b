"""A dialog that picks runs to overlay."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from tui_lab.app.labels import ago
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.choices import Choices
from tui_lab.app.widgets.search import OPEN, SearchField
from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.names import short_name
from tui_lab.runs.numbers import short_number

LEAST_NAME_WIDTH = 26
WIDTH = 110
"""Of the dialog, in columns, if there is room; as in pick_runs.tcss."""
WIDTH_OF_REST = 50
"""Columns of a line without the name of the run."""


class PickRuns(BaseScreen[list[Path] | None], ModalScreen[list[Path] | None]):
    """Returns the folders of the marked runs in the order of marking, or None after Escape.

    Enter picks the selected run if none was marked or unmarked.
    """

    CSS_PATH = "pick_runs.tcss"
    BINDINGS = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("space", "mark", "Mark"),
        OPEN,
    ]

    def __init__(self, rows: Sequence[RunRow], marked: Iterable[Path], most: int) -> None:
        super().__init__()
        self._rows = list(rows)
        self._shown = self._rows
        """Those that the search shows."""
        self._name_width = LEAST_NAME_WIDTH
        self._marked = [path for path in marked if path in {row.path for row in rows}]
        self._most = most
        self._changed = False

    def compose(self) -> ComposeResult:
        room = min(WIDTH, self.app.size.width * 19 // 20) - WIDTH_OF_REST
        self._name_width = max(LEAST_NAME_WIDTH, min(room, max((len(row.name) for row in self._rows), default=0)))
        with Vertical(id="box"):
            question = f"Runs of the same task, newest first. Space marks up to {self._most}, Enter shows them."
            yield Static(f"{question} / searches.")
            yield SearchField("Choices", "part of a name")
            yield Choices(*(Option(self._line(row)) for row in self._rows))

    def on_mount(self) -> None:
        self.query_one(Choices).focus()

    def action_search(self) -> None:
        self.query_one(SearchField).open()

    def on_search_field_searched(self, message: SearchField.Searched) -> None:
        self._shown = [row for row in self._rows if message.text in row.name.lower()]
        choices = self.query_one(Choices)
        choices.clear_options()
        choices.add_options([Option(self._line(row)) for row in self._shown])
        choices.action_first()

    def _line(self, row: RunRow) -> Text:
        marked = row.path in self._marked
        line = Text("● " if marked else "○ ", "bold" if marked else "dim")
        line.append(short_name(row.name, self._name_width).ljust(self._name_width), "bold" if marked else "")
        loss = row.val_loss if row.val_loss is not None else row.train_loss
        kind = "val" if row.val_loss is not None else "train"
        line.append(f" {row.steps:>7,} steps  {kind} {'–' if loss is None else short_number(loss):<7}", "dim")
        return line.append(f"  {ago(row.created, time.time())}", "dim")

    def action_mark(self) -> None:
        choices = self.query_one(Choices)
        number = choices.highlighted
        if number is None:
            return
        row = self._shown[number]
        if row.path in self._marked:
            self._marked.remove(row.path)
        elif len(self._marked) < self._most:
            self._marked.append(row.path)
        self._changed = True
        choices.replace_option_prompt_at_index(number, self._line(row))
        choices.action_cursor_down()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        selected = self._shown[event.option_index].path
        if not self._changed and selected not in self._marked and len(self._marked) < self._most:
            self._marked.append(selected)
        self.dismiss(self._marked)
