"""All runs: sorted, filtered, tagged; those that are marked beside each other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize, ScreenResume
from textual.message import Message
from textual.screen import Screen
from textual.widgets import ContentSwitcher, DataTable, Input, Static
from textual.worker import Worker, WorkerState

from tui_lab.app.labels import shown_path
from tui_lab.app.screens.chooser import Pick
from tui_lab.app.screens.comparison import Differences, Overlaid, Voices
from tui_lab.app.screens.dialogs import AskLine
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.run_table import COLUMNS, FIRST_KEY, LETTERS, RunTable, short
from tui_lab.app.session.multi_run_generation import MultiRunGeneration
from tui_lab.app.session.run_curves import CurveFile, Curves
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.input import Field
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow, find_runs, write_notes
from tui_lab.core.runs.query import ordered, parse_condition, select
from tui_lab.util.errors import ConfigError, RunError

SECONDS_BETWEEN_READINGS = 3.0
READING_SHARE = 0.02
"""Of a core, for looking into the folders again."""
SECONDS_BETWEEN_WORDS = 0.2
VIEWS = ("curves", "differences", "voices")
ORDERS = (FIRST_KEY, *(f"-{column.key}" if column.falling else column.key for column in COLUMNS))


class RunsScreen(BaseScreen[None], Screen[None]):
    """The folders are read in threads of their own; the screen keeps frozen rows."""

    CSS_PATH = "runs.tcss"
    BINDINGS = [
        Binding("space", "mark", "Mark"),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("o", "order(1)", "Sort"),
        Binding("O", "flip", "Reverse order", show=False),
        Binding("v", "view('curves')", "Curves"),
        Binding("d", "view('differences')", "Diff"),
        Binding("g", "view('voices')", "Generate"),
        Binding("t", "tags", "Tag"),
        Binding("n", "note", "Note", show=False),
        Binding("c", "go_on", "Resume", show=False),
        Binding("z", "zoom", "Zoom", show=False),
        Binding("y", "log", "Log axis", show=False),
        Binding("x", "validation", "Train or validation loss", show=False),
        Binding("backspace", "unmark", "Unmark all", show=False),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("escape,q", "back", "Back"),
    ]

    class Picked(Message):
        def __init__(self, pick: Pick) -> None:
            super().__init__()
            self.pick = pick

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self.rows: tuple[RunRow, ...] = ()
        self.shown: list[RunRow] = []
        self.marks: dict[Path, int] = {}
        self.order, self.where = FIRST_KEY, ""
        self._problem = ""
        self._read_again_at = float("-inf")
        self._reading, self._began = False, 0.0
        self._files, self._curves = CurveFile(), dict[Path, Curves]()
        self.generation = MultiRunGeneration()

    def compose(self) -> ComposeResult:
        yield Static(id="head")
        yield Field(id="where", placeholder="part of a name or tag, or optim.lr<0.01, val_loss<1, state=done …")
        yield RunTable(id="table")
        yield Static(id="about")
        with ContentSwitcher(initial="curves", id="beside"):
            yield Overlaid(id="curves")
            yield Differences(id="differences")
            yield Voices(self.generation, id="voices")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(RunTable).focus()
        self.set_interval(SECONDS_BETWEEN_WORDS, self.tick)
        self.redraw()

    def on_unmount(self) -> None:
        self.generation.stop()

    @on(ScreenResume)
    def _again(self) -> None:
        self._read_again_at = float("-inf")

    def on_resize(self, event: Resize) -> None:
        self.set_class(self.app.size.height < 34, "-low")

    def tick(self) -> None:
        """What the runs say, and now and then what has become of the folders."""
        if not self.is_current or not self.is_attached:
            return
        self.query_one(Voices).hear()
        if not self._reading and self._clock() >= self._read_again_at:
            self._reading, self._began = True, self._clock()
            wanted = tuple(self.marks)
            self.run_worker(lambda: self._read(wanted), thread=True, group="reading", exit_on_error=False)

    # What the threads bring

    def _read(self, wanted: tuple[Path, ...]) -> tuple[tuple[RunRow, ...], dict[Path, Curves]]:
        """In a thread: the rows, and the curves of those that are wanted."""
        return tuple(find_runs(runs.runs_folder())), {path: self._files.read(path) for path in wanted}

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.worker.group != "reading":
            return
        if event.state == WorkerState.ERROR:
            self._problem = f"cannot read the runs: {event.worker.error!r}"
        elif event.state == WorkerState.SUCCESS and event.worker.result is not None:
            self.take(*event.worker.result)
        else:
            return
        now = self._clock()
        asked_meanwhile = any(path not in self._curves for path in self.marks)
        pause = 0.0 if asked_meanwhile else max(SECONDS_BETWEEN_READINGS, (now - self._began) / READING_SHARE)
        self._reading, self._read_again_at = False, now + pause

    def take(self, rows: Sequence[RunRow], curves: dict[Path, Curves]) -> None:
        """Show these; marks of runs that are gone go too."""
        self.rows = tuple(rows)
        self._curves = {**self._curves, **curves}
        there = {row.path for row in rows}
        self.marks = {path: mark for path, mark in self.marks.items() if path in there}
        self.redraw()

    # What can be seen

    @property
    def marked(self) -> list[tuple[int, RunRow]]:
        """Letter and row of every marked run, in the order of their letters."""
        by_path = {row.path: row for row in self.rows}
        return sorted(((mark, by_path[path]) for path, mark in self.marks.items() if path in by_path),
                      key=lambda pair: pair[0])  # fmt: skip

    def redraw(self) -> None:
        self._select()
        self.query_one(RunTable).fill(self.shown, self.marks, self.order)
        self._head()
        self._about()
        self._beside()

    def _select(self) -> None:
        """A condition that is not written to its end keeps what was shown."""
        try:
            conditions = [parse_condition(word) for word in self.where.split()]
        except ConfigError as error:
            self._problem = str(error.problems[0])
            there = {row.path: row for row in self.rows}
            self.shown = [there[row.path] for row in self.shown if row.path in there]
            return
        self._problem = ""
        self.shown = ordered(select(self.rows, conditions), self.order)

    def _head(self) -> None:
        text = Text(no_wrap=True, overflow="ellipsis")
        n = f"{len(self.shown):,} of {len(self.rows):,}" if self.where else f"{len(self.rows):,}"
        text.append(f"{n} runs ({shown_path(runs.runs_folder())})", "bold")
        title = {"created": "start time"} | {column.key: column.title for column in COLUMNS}
        text.append(f"  by {title[self.order.removeprefix('-')]} {'↓' if self.order.startswith('-') else '↑'}")
        text.append(f"  {len(self.marks)} marked" if self.marks else "")
        if self._problem:
            text = Text(f"✗ {self._problem}", "bold", no_wrap=True, overflow="ellipsis")
        self._put("#head", text)

    def _about(self) -> None:
        """The run under the cursor in a line."""
        row = self._row()
        text = Text(no_wrap=True, overflow="ellipsis")
        if row is None:
            text.append(
                "No run matches; / edits the filter" if self.where else "No runs yet. Press q and start a preset.",
                "dim",
            )
        elif row.problem:
            text.append(f"✗ {short(row.problem, 300)}", "bold")
        else:
            best = "" if row.best_step is None else f", best {row.best_val_loss:.4g} at step {row.best_step:,}"
            text.append(short(row.name, 80), "bold").append(f"  {row.state}{best}")
            text.append(f"  {short(' '.join(row.tags), 60)}" if row.tags else "", "bold")
            text.append(f"  {short(row.note, 200)}" if row.note else "", "italic")
        self._put("#about", text)

    def _beside(self) -> None:
        """The lower part: of those marked, or else of the one under the cursor."""
        chosen = self.marked or ([(0, row)] if (row := self._row()) is not None else [])
        match self.query_one(ContentSwitcher).current:
            case "curves":
                self.query_one(Overlaid).show(
                    [(mark, row.name, self._curves.get(row.path)) for mark, row in self.marked]
                )
            case "differences":
                self.query_one(Differences).show(chosen)
            case _:
                self.query_one(Voices).show(chosen)

    def _put(self, selector: str, text: Text) -> None:
        widget = self.query_one(selector, Static)
        if widget.content != text:
            widget.update(text, layout=False)

    def _row(self) -> RunRow | None:
        path = self.query_one(RunTable).highlighted
        return next((row for row in self.shown if row.path == path), None)

    # What the keys do

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        if event.data_table.id == "table":
            self._about()
            if not self.marks:
                self._beside()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        if event.data_table.id == "table" and (row := self._row()) is not None:
            self.post_message(self.Picked(Pick("replay", str(row.path))))

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """A click on a column sorts by it; on the one that sorts, the other way."""
        found = [order for order in ORDERS if order.removeprefix("-") == event.column_key.value]
        if not found:
            return
        if self.order.removeprefix("-") == event.column_key.value:
            self.action_flip()
        else:
            self._order_by(found[0])

    def action_order(self, by: int) -> None:
        here = [order.removeprefix("-") for order in ORDERS].index(self.order.removeprefix("-"))
        self._order_by(ORDERS[(here + by) % len(ORDERS)])

    def action_flip(self) -> None:
        self._order_by(self.order.removeprefix("-") if self.order.startswith("-") else f"-{self.order}")

    def _order_by(self, order: str) -> None:
        self.order = order
        self.redraw()

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take its mark; then the next run."""
        row = self._row()
        if row is None:
            return
        free = [mark for mark in range(len(LETTERS)) if mark not in self.marks.values()]
        if row.path in self.marks:
            del self.marks[row.path]
        elif free:
            self.marks[row.path] = free[0]
        else:
            self.notify(
                f"at most {len(LETTERS)} runs can be marked; Space unmarks one, Backspace all", severity="warning"
            )
            return
        if any(path not in self._curves for path in self.marks):
            self._read_again_at = float("-inf")
        self.query_one(RunTable).action_cursor_down()
        self.redraw()

    def action_unmark(self) -> None:
        self.marks = {}
        self.redraw()

    def action_filter(self) -> None:
        self.query_one("#where").display = True
        self.query_one("#where").focus()

    @on(Input.Changed, "#where")
    def _filter(self, event: Input.Changed) -> None:
        self.where = event.value
        self.redraw()

    @on(Input.Submitted, "#where")
    def _filtered(self) -> None:
        self.query_one(RunTable).focus()
        self.query_one("#where").display = bool(self.where)

    def action_view(self, which: str) -> None:
        self.query_one(ContentSwitcher).current = which
        self._beside()
        if which == "voices":
            self.query_one(Voices).focus_prompt()

    def action_zoom(self) -> None:
        self.toggle_class("-zoomed")

    def action_log(self) -> None:
        self.query_one(Overlaid).toggle("log")

    def action_validation(self) -> None:
        self.query_one(Overlaid).toggle("validation")

    def action_tags(self) -> None:
        if (row := self._row()) is not None:
            ask = AskLine(f"Tags of {short(row.name, 50)}, separated by spaces", " ".join(row.tags), may_be_empty=True)
            self.app.push_screen(ask, lambda text: self._note(row, tags=text))

    def action_note(self) -> None:
        if (row := self._row()) is not None:
            ask = AskLine(f"Note for {short(row.name, 50)}", row.note, may_be_empty=True)
            self.app.push_screen(ask, lambda text: self._note(row, note=text))

    def _note(self, row: RunRow, tags: str | None = None, note: str | None = None) -> None:
        """Written at once; what cannot be written is said and nothing is changed."""
        if tags is None and note is None:
            return
        new = replace(
            row,
            tags=row.tags if tags is None else tuple(dict.fromkeys(tags.replace(",", " ").split())),
            note=row.note if note is None else note,
        )
        try:
            write_notes(row.path, new.tags, new.note)
        except (ConfigError, RunError) as error:
            self.notify(str(error), severity="error")
            return
        self.rows = tuple(new if each.path == row.path else each for each in self.rows)
        self.redraw()

    def action_go_on(self) -> None:
        if (row := self._row()) is not None:
            self.post_message(self.Picked(Pick("resume", str(row.path))))

    def action_help(self) -> None:
        self.app.push_screen(Help("runs"))

    def action_back(self) -> None:
        """Out of a field, out of the filter, then off the screen."""
        box = self.query_one("#where", Input)
        if isinstance(self.focused, Input) and self.focused is not box:
            self.query_one(RunTable).focus()
        elif box.has_focus or self.where:
            box.value = ""
            box.display = False
            self.query_one(RunTable).focus()
        else:
            self.dismiss(None)
