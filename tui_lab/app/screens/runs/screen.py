"""The runs screen: all runs, sorted, filtered, tagged, compared, exported and deleted."""

import time
from collections.abc import Callable
from typing import Literal

from textual import on
from textual.binding import Binding
from textual.message import Message
from textual.widgets import ContentSwitcher, DataTable, Input

from tui_lab.app.clipboard import copy
from tui_lab.app.keymap import named
from tui_lab.app.palette.verbs import run_verbs
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.runs.curves_view import CurvesView
from tui_lab.app.screens.runs.files import RunFiles
from tui_lab.app.screens.runs.marks import LETTERS
from tui_lab.app.screens.runs.replies import RepliesView
from tui_lab.app.screens.runs.table import RunTable
from tui_lab.app.screens.runs.view import RunsView
from tui_lab.core.runs.catalog import RunRow


class RunsScreen(RunsView):
    CSS_PATH = "screen.tcss"
    verbs = run_verbs
    """The palette's commands with an argument."""
    BINDINGS = named(
        "runs",
        Binding("space", "mark", "Mark"),
        Binding("slash", "filter", "Filter"),
        Binding("o", "sort('next')", "Sort"),
        Binding("O", "sort('reverse')", "Reverse order", show=False),
        Binding("v", "view('curves')", "Curves"),
        Binding("d", "view('differences')", "Diff"),
        Binding("g", "view('replies')", "Generate"),
        Binding("t", "files('tags')", "Tag"),
        Binding("n", "files('note')", "Note", show=False),
        Binding("c", "resume", "Resume", show=False),
        Binding("z", "zoom", "Zoom", show=False),
        Binding("y", "copy", "Copy path", show=False),
        Binding("Y", "toggle_curves('log')", "Log axis", show=False),
        Binding("x", "toggle_curves('validation')", "Train or validation loss", show=False),
        Binding("backspace", "unmark", "Unmark all", show=False),
        Binding("question_mark,f1", "help", "Help"),
        Binding("escape,q", "back", "Back"),
        Binding("e", "files('export')", "Export", show=False),
        Binding("E", "examples", "Examples", show=False),
        Binding("X,delete", "files('delete')", "Delete", show=False),
    )

    class Picked(Message):
        """The user wants to open a run."""

        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        """clock: seconds, for the pauses between readings. now: POSIX seconds, for the ages of runs."""
        super().__init__(clock, now)
        self.files = RunFiles(self, self._files_changed)

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
        self.query_one(RunTable).action_cursor_down()
        self.redraw()

    def action_unmark(self) -> None:
        self.marks.clear()
        self.redraw()

    def action_filter(self) -> None:
        field = self.query_one("#where")
        field.display = True
        # At once: `Widget.focus` waits, and the next keys of a burst would be keys of the table.
        self.set_focus(field)

    @on(Input.Changed, "#where")
    @on(Input.Submitted, "#where")
    def _filter_edited(self, event: Input.Changed | Input.Submitted) -> None:
        self.runs.set_filter(event.value)
        self.redraw()
        if isinstance(event, Input.Submitted):
            self.set_focus(self.query_one(RunTable))
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

    def action_files(self, what: Literal["tags", "note", "export", "delete"]) -> None:
        """Edit the tags or the note of the selected run, delete it, or export the compared runs."""
        row = self.selected
        if row is None:
            return
        match what:
            case "export":
                self.files.export([run.row for run in self.compared])
            case "delete":
                self.files.delete(row)
            case _:
                self.files.edit_notes(row, what)

    def _files_changed(self, edited: RunRow | None) -> None:
        if edited is not None:
            self.set_rows([edited if each.path == edited.path else each for each in self.runs.rows])
        else:
            self.reader.read_soon()

    def action_resume(self) -> None:
        if (row := self.selected) is not None:
            self.post_message(self.Picked(Pick("resume", str(row.path))))

    def action_examples(self) -> None:
        if (row := self.selected) is None:
            return

        from tui_lab.app.screens.examples import ExamplesScreen
        from tui_lab.app.session.examples_process import ExamplesProcess

        self.app.push_screen(ExamplesScreen(row.name, ExamplesProcess(row.path), None))

    def action_copy(self) -> None:
        copy(self.app, "" if self.selected is None else str(self.selected.path))

    def action_help(self) -> None:
        self.app.push_screen(Help("runs"))

    def action_back(self) -> None:
        """Leave a field, then the diff or the replies, then clear the filter, then leave the screen."""
        field = self.query_one("#where", Input)
        if isinstance(self.focused, Input) and self.focused is not field:
            self.set_focus(self.query_one(RunTable))
        elif not field.has_focus and self.query_one(ContentSwitcher).current != "curves":
            self.action_view("curves")
        elif field.has_focus or self.runs.filter:
            field.value = ""
            field.display = False
            self.set_focus(self.query_one(RunTable))
        else:
            self.dismiss(None)
