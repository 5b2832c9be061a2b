"""What the runs screen shows: the runs, their comparison, and the details of one."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Container, Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import ContentSwitcher, DataTable, Static

from tui_lab.app.panes.key_hints import fitting_hints, hints_of
from tui_lab.app.screens.runs.curves_view import CurvesView, RunCurves
from tui_lab.app.screens.runs.marks import CURSOR, MarkedRun, Marks
from tui_lab.app.screens.runs.replies import RepliesView
from tui_lab.app.screens.runs.run_list import RunList
from tui_lab.app.screens.runs.settings_diff import DiffView
from tui_lab.app.screens.runs.table import RunTable
from tui_lab.app.screens.runs.text import details_text, list_text, run_text
from tui_lab.app.session.run_curves import LossCurves
from tui_lab.app.session.run_reader import RunReader
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow

SECONDS_BETWEEN_TICKS = 0.2
FILTER_EXAMPLES = "part of a name or tag, or optim.lr<0.01, val_loss<1, state=done …"
WIDE = 150
"""From this width on, the chart is beside the table, and there is room for the details of a run."""
KEYS = ("Enter open", "c resume", "n note", "E examples", "e export", "X delete", "y copy path")
"""Keys of the table that the footer has no room for."""
NO_RUNS = "No runs yet. Press q and start a preset."
NO_MATCH = "No run matches; / edits the filter"


class Comparison(ContentSwitcher):
    """The views of the compared runs; its border shows keys of the table."""

    def on_resize(self) -> None:
        hints = hints_of(KEYS, self.screen.query_one(RunTable))
        self.border_title = fitting_hints(hints, self.outer_size.width - 6)


class RunsView(BaseScreen[None], Screen[None]):
    """The runs screen without its keys."""

    CSS_PATH = "screen.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-one-column"), (WIDE, "-two-columns")]

    def __init__(self, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time) -> None:
        """clock: seconds, for the pauses between readings. now: POSIX seconds, for the ages of runs."""
        super().__init__()
        self._now = now
        self.runs = RunList()
        self.marks = Marks()
        self.reader = RunReader(runs.runs_folder(), clock)
        self._curves: dict[Path, LossCurves] = {}
        self._reading_problem: str | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Field(id="where", placeholder=FILTER_EXAMPLES)
        with Container(id="body"):
            yield RunTable(id="table")
            with Vertical(id="compared"):
                yield Static(id="about")
                with Comparison(initial="curves", id="lower"):
                    yield CurvesView(id="curves")
                    yield DiffView(id="differences")
                    yield RepliesView(id="replies")
            with VerticalScroll(id="details", can_focus=False):
                yield Static(id="details-text")
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
        reading = self.reader.poll(run.row.path for run in self.compared)
        if reading is None:
            return
        self._reading_problem = reading.problem
        self._curves |= dict(reading.curves)
        if reading.problem is None:
            curves = dict(reading.curves)
            rows = self.runs.rows if reading.rows is None else reading.rows
            self.set_rows([curves[row.path].row_at_end(row) if row.path in curves else row for row in rows])
        else:
            self.redraw()

    def set_rows(self, rows: Sequence[RunRow]) -> None:
        """Show these runs; runs that are gone lose their marks."""
        self.runs.set_rows(rows)
        self.marks.keep(row.path for row in rows)
        self.redraw()

    # Drawing

    def redraw(self) -> None:
        self.query_one(RunTable).fill(self.runs.shown, self.marks, self.runs.order, self._now())
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
        update_text(self.query_one("#details-text", Static), Text() if row is None else details_text(row))

    @property
    def marked(self) -> list[MarkedRun]:
        return self.marks.marked(self.runs.rows)

    @property
    def compared(self) -> list[MarkedRun]:
        """The marked runs, or the one under the cursor if none is marked."""
        return self.marked or [MarkedRun(CURSOR, row) for row in [self.selected] if row is not None]

    def _compare(self) -> None:
        """Show the marked runs, or the one under the cursor, in the part beside or below the table."""
        compared = self.compared
        if any(run.row.path not in self._curves for run in compared):
            self.reader.read_curves_soon()
        match self.query_one(ContentSwitcher).current:
            case "curves":
                curves = [RunCurves(run, self._curves.get(run.row.path)) for run in compared]
                self.query_one(CurvesView).show_runs(curves)
            case "differences":
                self.query_one(DiffView).show_runs(compared, self._curves)
            case _:
                self.query_one(RepliesView).show_runs(compared)

    @property
    def selected(self) -> RunRow | None:
        """The run under the cursor."""
        path = self.query_one(RunTable).highlighted
        return next((row for row in self.runs.shown if row.path == path), None)

    @on(DataTable.RowHighlighted, "#table")
    def _cursor_moved(self) -> None:
        self._show_selected()
        if not self.marks:
            self._compare()
