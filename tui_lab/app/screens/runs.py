"""The runs screen: all runs, sorted, filtered, tagged and compared."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.message import Message
from textual.screen import Screen
from textual.widgets import ContentSwitcher, DataTable, Input, Static

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.run_curves_view import CurvesView, RunCurves
from tui_lab.app.screens.run_list import RunList
from tui_lab.app.screens.run_marks import LETTERS, Mark, MarkedRun, Marks
from tui_lab.app.screens.run_notes import notes_dialog, save_notes
from tui_lab.app.screens.run_replies import RepliesView
from tui_lab.app.screens.run_table import RunTable
from tui_lab.app.screens.run_text import list_text, run_text
from tui_lab.app.screens.settings_diff import DiffView
from tui_lab.app.session.run_curves import LossCurves
from tui_lab.app.session.run_reader import RunReader
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow
from tui_lab.util.errors import ConfigError, RunError

SECONDS_BETWEEN_TICKS = 0.2
FILTER_EXAMPLES = "part of a name or tag, or optim.lr<0.01, val_loss<1, state=done …"
NO_RUNS = "No runs yet. Press q and start a preset."
NO_MATCH = "No run matches; / edits the filter"


class RunsScreen(BaseScreen[None], Screen[None]):
    CSS_PATH = "runs.tcss"
    BINDINGS = named(
        "runs",
        Binding("space", "mark", "Mark"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("o", "sort('next')", "Sort"),
        Binding("O", "sort('reverse')", "Reverse order", show=False),
        Binding("v", "view('curves')", "Curves"),
        Binding("d", "view('differences')", "Diff"),
        Binding("g", "view('replies')", "Generate"),
        Binding("t", "edit_notes('tags')", "Tag"),
        Binding("n", "edit_notes('note')", "Note", show=False),
        Binding("c", "resume", "Resume", show=False),
        Binding("z", "zoom", "Zoom", show=False),
        Binding("y", "copy", "Copy path", show=False),
        Binding("Y", "toggle_curves('log')", "Log axis", show=False),
        Binding("x", "toggle_curves('validation')", "Train or validation loss", show=False),
        Binding("backspace", "unmark", "Unmark all", show=False),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("escape,q", "back", "Back"),
    )

    class Picked(Message):
        """The user wants to open a run."""

        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.runs = RunList()
        self.marks = Marks()
        self.reader = RunReader(runs.runs_folder(), clock)
        self._curves: dict[Path, LossCurves] = {}
        self._reading_problem: str | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Field(id="where", placeholder=FILTER_EXAMPLES)
        yield RunTable(id="table")
        yield Static(id="about")
        with ContentSwitcher(initial="curves", id="lower"):
            yield CurvesView(id="curves")
            yield DiffView(id="differences")
            yield RepliesView(id="replies")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(RunTable).focus()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.redraw()

    def tick(self) -> None:
        """Show new text of the replies, and what has changed in the runs folder."""
        if not self.is_current or not self.is_attached:
            return
        self.query_one(RepliesView).update_replies()
        reading = self.reader.poll(self.marks.paths)
        if reading is None:
            return
        self._reading_problem = reading.problem
        if reading.problem is None:
            self._curves |= dict(reading.curves)
            self.set_rows(reading.rows)
        else:
            self.redraw()

    def set_rows(self, rows: Sequence[RunRow]) -> None:
        """Show these runs; runs that are gone lose their marks."""
        self.runs.set_rows(rows)
        self.marks.keep(row.path for row in rows)
        self.redraw()

    # Drawing

    def redraw(self) -> None:
        self.query_one(RunTable).fill(self.runs.shown, self.marks, self.runs.order)
        text = list_text(self.runs, runs.runs_folder(), len(self.marks))
        if self._reading_problem is not None:
            text = Text(f"✗ {self._reading_problem}", "bold", no_wrap=True, overflow="ellipsis")
        update_text(self.query_one("#head", Static), text)
        self._show_selected()
        self._compare()

    def _show_selected(self) -> None:
        row = self.selected
        text = Text(NO_MATCH if self.runs.filter else NO_RUNS, "dim") if row is None else run_text(row)
        update_text(self.query_one("#about", Static), text)

    @property
    def marked(self) -> list[MarkedRun]:
        return self.marks.marked(self.runs.rows)

    def _compare(self) -> None:
        """Show the lower part: the marked runs, or the selected one if none is marked."""
        compared = self.marked or [MarkedRun(Mark(0), row) for row in [self.selected] if row is not None]
        match self.query_one(ContentSwitcher).current:
            case "curves":
                curves = [RunCurves(run, self._curves.get(run.row.path)) for run in self.marked]
                self.query_one(CurvesView).show_runs(curves)
            case "differences":
                self.query_one(DiffView).show_runs(compared)
            case _:
                self.query_one(RepliesView).show_runs(compared)

    @property
    def selected(self) -> RunRow | None:
        """The run under the cursor."""
        path = self.query_one(RunTable).highlighted
        return next((row for row in self.runs.shown if row.path == path), None)

    # Keys and the mouse

    @on(DataTable.RowHighlighted, "#table")
    def _cursor_moved(self) -> None:
        self._show_selected()
        if not self.marks:
            self._compare()

    @on(DataTable.RowSelected, "#table")
    def _replay(self) -> None:
        if (row := self.selected) is not None:
            self.post_message(self.Picked(Pick("replay", str(row.path))))

    @on(DataTable.HeaderSelected, "#table")
    def _header_clicked(self, event: DataTable.HeaderSelected) -> None:
        self.runs.sort_by_key(str(event.column_key.value))
        self.redraw()

    def action_sort(self, what: Literal["next", "reverse"]) -> None:
        """Sort by the next column, or reverse the order."""
        if what == "next":
            self.runs.sort_by_next()
        else:
            self.runs.reverse()
        self.redraw()

    def action_mark(self) -> None:
        """Mark or unmark the selected run, and select the next one."""
        row = self.selected
        if row is None:
            return
        if not self.marks.toggle(row.path):
            limit = f"at most {len(LETTERS)} runs can be marked; Space unmarks one, Backspace all"
            self.notify(limit, severity="warning")
            return
        if any(path not in self._curves for path in self.marks.paths):
            self.reader.read_soon()
        self.query_one(RunTable).action_cursor_down()
        self.redraw()

    def action_unmark(self) -> None:
        self.marks.clear()
        self.redraw()

    def action_filter(self) -> None:
        self.query_one("#where").display = True
        self.query_one("#where").focus()

    @on(Input.Changed, "#where")
    @on(Input.Submitted, "#where")
    def _filter_edited(self, event: Input.Changed | Input.Submitted) -> None:
        self.runs.set_filter(event.value)
        self.redraw()
        if isinstance(event, Input.Submitted):
            self.query_one(RunTable).focus()
            event.input.display = bool(event.value)

    def action_view(self, view: Literal["curves", "differences", "replies"]) -> None:
        self.query_one(ContentSwitcher).current = view
        self._compare()
        if view == "replies":
            self.query_one(RepliesView).focus_prompt()

    def action_zoom(self) -> None:
        self.toggle_class("-zoomed")

    def action_toggle_curves(self, what: Literal["log", "validation"]) -> None:
        view = self.query_one(CurvesView)
        if what == "log":
            view.next_y_axis()
        else:
            view.toggle_validation()

    def action_edit_notes(self, part: Literal["tags", "note"]) -> None:
        row = self.selected
        if row is None:
            return

        def save(text: str | None) -> None:
            if text is None:
                return
            try:
                edited = save_notes(row, part, text)
            except (ConfigError, RunError) as error:
                self.notify(str(error), severity="error")
            else:
                self.set_rows([edited if each.path == row.path else each for each in self.runs.rows])

        self.app.push_screen(notes_dialog(row, part), save)

    def action_resume(self) -> None:
        if (row := self.selected) is not None:
            self.post_message(self.Picked(Pick("resume", str(row.path))))

    def action_copy(self) -> None:
        copy(self.app, "" if self.selected is None else str(self.selected.path))

    def action_help(self) -> None:
        self.app.push_screen(Help("runs"))

    def action_back(self) -> None:
        """Leave a field, then clear the filter, then leave the screen."""
        field = self.query_one("#where", Input)
        if isinstance(self.focused, Input) and self.focused is not field:
            self.query_one(RunTable).focus()
        elif field.has_focus or self.runs.filter:
            field.value = ""
            field.display = False
            self.query_one(RunTable).focus()
        else:
            self.dismiss(None)
