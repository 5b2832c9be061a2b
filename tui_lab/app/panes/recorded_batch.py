"""The batch of a watched script, as its recorder saw it: cells, alignment, and which rows came back."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tui_lab.app.panes.batch_age import age_text
from tui_lab.app.panes.batch_text import cell_details
from tui_lab.app.panes.cells import Cells, Example, Floats
from tui_lab.app.panes.copied import example_text
from tui_lab.app.session.attention_source import Rows, rows_of_recorded
from tui_lab.app.session.batch_reader import SECONDS_BETWEEN_LOOKS, BatchReader, BatchReading
from tui_lab.app.session.state import LabState
from tui_lab.app.token_text import class_tokenizer
from tui_lab.app.widgets.histogram_bar import LEVELS
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.config.script import is_imported
from tui_lab.core.watch.batch.recorded_batch import Ids, RecordedBatch, RowHistory, read_batch
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.escape import printable
from tui_lab.util.plural import counted

LOOKS_IN_PAUSE = 12
"""For a batch that is newer than the one shown: the recorder writes it before it records the pause."""
NO_BATCH = "No batch is recorded yet."
NO_FIRST_BATCH = (
    "The batch of step 1 is not recorded: until its end it is not known which model trains. "
    "The next step shows its own."
)
NEVER_A_BATCH = "This run was imported from a log, which has no batches."
NO_TOKENS = "The model does not take token ids, so there are no cells or attention maps."


@dataclass(frozen=True)
class RowLosses:
    """See `core.inference.example.CellLosses`; k = 0 where the predictions were not measured."""

    losses: Floats
    top: Ids
    probabilities: Floats


class RecordedBatchView(Vertical):
    """Reads the recorded batch when its file changes, and shows one of its rows."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.reading: BatchReading | None = None
        self.reader: BatchReader | None = None
        self._tokenizer: Tokenizer | None = None
        self._drawn: object = None
        self._state = LabState()
        self._no_batch = NO_BATCH
        self._awaited_step = 0
        """That of the latest pause."""
        self._looks_left = LOOKS_IN_PAUSE

    def compose(self) -> ComposeResult:
        yield Static(NO_BATCH, id="recorded")
        yield Static(id="alignment")
        yield Static(id="returned")
        yield Cells(id="recorded-cells")
        yield Static(id="recorded-cell")

    @property
    def rows(self) -> Rows | None:
        """The rows of the batch that is shown; None if there are none, or no tokens."""
        batch = None if self.reading is None else self.reading.batch
        return None if batch is None else rows_of_recorded(batch)

    def current_row(self, state: LabState) -> tuple[Rows, int] | None:
        """Return the rows and which of them is shown, or would be if the pane were visible."""
        if self.reading is None and state.ready is not None:
            with contextlib.suppress(OSError, ValueError):  # The pane shows the problem.
                batch = read_batch(Path(state.ready.path))
                rows = None if batch is None else rows_of_recorded(batch)
                return None if rows is None else (rows, 0)
        rows = self.rows
        return None if rows is None else (rows, self.query_one(Cells).row % len(rows.x))

    def copied(self) -> str:
        """Return the selected row as text."""
        example = self.query_one(Cells).example
        return "" if example is None else example_text(example.name, example)

    def show(self, state: LabState, now: float) -> None:
        """Draw the latest batch that was read."""
        if state.ready is None:
            return
        no_batch = NEVER_A_BATCH if is_imported(state.config) else no_batch_text(state)
        if no_batch != self._no_batch:
            self._no_batch = no_batch
            self._drawn = None
        if self.reader is None:
            self.reader = BatchReader(Path(state.ready.path))
            self._tokenizer = state.ready.tokenizer
        if (reading := self.reader.poll(now, running=state.phase == "running")) is not None:
            self.reading = reading
        elif self._is_awaited(state, self.reader):
            # Shown as soon as it is read, not at the next round of drawing.
            self.set_timer(SECONDS_BETWEEN_LOOKS, lambda: self.show(self._state, now + SECONDS_BETWEEN_LOOKS))
        drawn = (self.reading, self.size)
        self._state = state
        if drawn != self._drawn:
            self._drawn = drawn
            self.redraw()
        elif self.reading is not None and self.reading.batch is not None:
            update_text(self._static("#recorded"), batch_title(self.reading.batch, state), layout=True)

    def _is_awaited(self, state: LabState, reader: BatchReader) -> bool:
        """Return whether the first batch is being read, or that of a pause may come."""
        if state.phase != "paused":
            return self.reading is None and reader.busy
        if state.step != self._awaited_step:
            self._awaited_step = state.step
            self._looks_left = LOOKS_IN_PAUSE
        batch = None if self.reading is None else self.reading.batch
        if batch is not None and batch.step + 1 >= state.step:
            return False
        self._looks_left -= 1
        return self._looks_left >= 0

    def redraw(self) -> None:
        reading = self.reading
        if reading is None or reading.batch is None:
            problem = printable(reading.problem) if reading is not None and reading.problem else self._no_batch
            update_text(self._static("#recorded"), Text(problem), layout=True)
            return
        batch = reading.batch
        update_text(self._static("#recorded"), batch_title(batch, self._state), layout=True)
        aligned = reading.alignment.text if reading.alignment is not None else no_alignment(batch)
        update_text(self._static("#alignment"), Text(aligned), layout=True)
        returned = (
            Text() if batch.history is None else returned_rows(batch, batch.history, max(10, self.size.width - 30))
        )
        update_text(self._static("#returned"), returned, layout=True)
        self._show_cells(batch)

    def _show_cells(self, batch: RecordedBatch) -> None:
        rows = self.rows
        cells = self.query_one(Cells)
        cells.display = rows is not None
        self.query_one("#recorded-cell").display = rows is not None
        if rows is None or self._tokenizer is None:
            return
        aligned = None if self.reading is None else self.reading.alignment
        next_token = aligned is not None and aligned.next_token
        examples = [
            Example(
                self._tokenizer,
                next_token,
                rows.x[row],
                rows.y[row],
                losses_of(batch, row),
                row,
                row_name(batch, row, len(rows.x)),
                class_tokenizer(batch.n_classes, batch.class_names),
                batch.ignore_index,
            )
            for row in range(len(rows.x))
        ]
        cells.show_examples(examples)
        self._show_details(batch)

    def _show_details(self, batch: RecordedBatch) -> None:
        cells = self.query_one(Cells)
        if cells.example is None:
            return
        title = f"{cells.example.name}, t = {cells.selected}"
        details = cell_details(title, cells.example, cells.selected, self.size.width)
        update_text(self._static("#recorded-cell"), details)

    def on_cells_selected(self) -> None:
        if self.reading is not None and self.reading.batch is not None:
            self._show_details(self.reading.batch)

    def _static(self, selector: str) -> Static:
        return self.query_one(selector, Static)


def no_batch_text(state: LabState) -> str:
    """Return why there is no batch yet."""
    return NO_FIRST_BATCH if state.phase == "paused" and state.step == 1 else NO_BATCH


def batch_title(batch: RecordedBatch, state: LabState) -> Text:
    """Return the step of a batch, counted as in the status line, how old it is, and its size.

    Where the losses of its tokens were not measured, the loss of its step stands for them, if it is the latest one.
    """
    age = state.step - batch.step - 1
    is_old = state.phase == "paused" and age > 0  # The user looks at the step of the pause.
    text = age_text(age, state, following=True)
    parts = [f"  {counted(batch.n_rows, 'row')}"]
    if batch.micro_batches > 1:
        parts.append(f"the first of {batch.micro_batches:,} micro-batches")
    parts += [f"{name} {shape}" for name, shape in (("x", batch.x_shape), ("y", batch.y_shape)) if shape]
    if batch.losses is None and batch.x is not None and state.last is not None and state.last.step == batch.step + 1:
        parts.append(f"loss of the step {state.last.loss:.3f}")
    return Text.assemble(
        (f"step {batch.step + 1:,}", "bold reverse" if is_old else "bold"),
        (f"  {text}" if text else "", "bold" if is_old else "italic"),
        printable("  ".join(parts)),
    )


def no_alignment(batch: RecordedBatch) -> str:
    """Return why the alignment of a batch is not known."""
    if batch.x is None:
        return NO_TOKENS
    if batch.row_classes is not None:
        return "The target of a row is its class."
    if batch.n_classes:
        return f"The target of a token is one of {batch.n_classes:,} classes."
    return "The loss takes no targets that belong to these tokens."


def returned_rows(batch: RecordedBatch, history: RowHistory, width: int) -> Text:
    """Return two lines: which rows of the batch were used before; a strip of the share of new rows in each step."""
    strip = "".join(_level(share) for share in history.recent_new[-width:].tolist())
    n_steps = min(width, len(history.recent_new))
    return Text.assemble(
        (history_text(batch.step, history), "bold"),
        ("\nnew rows ", "dim"),
        strip,
        (f" last {n_steps:,} steps" if n_steps > 1 else " last step", "dim"),
    )


def _level(share: float) -> str:
    """Return the character for a fraction of new rows: a dot for none, a full block for all."""
    return LEVELS[0] if share <= 0 else LEVELS[max(1, min(len(LEVELS) - 1, round(share * (len(LEVELS) - 1))))]


def history_text(step: int, history: RowHistory) -> str:
    """Return a sentence about when the rows of the batch of `step` were used before."""
    n_rows = len(history.last_step)
    used = history.last_step[history.last_step >= 0]
    ages = np.unique(step - used).tolist()
    n_new = n_rows - len(used)
    if not ages:
        return f"{n_rows:,} of {n_rows:,} rows are new"
    when = _steps_ago(ages[0]) if len(ages) == 1 else f"{ages[0]:,} to {ages[-1]:,} steps ago"
    if n_new:
        return f"{n_new:,} of {n_rows:,} rows are new; the others were last used {when}"
    if ages == [1]:
        return "same rows as the step before"
    return f"all rows were last used {when}"


def _steps_ago(age: int) -> str:
    return "in this step" if age == 0 else "one step ago" if age == 1 else f"{age:,} steps ago"


def row_name(batch: RecordedBatch, row: int, n_shown: int) -> str:
    """Return the place of a row in its batch, and when it was used before."""
    of_all = "" if n_shown == batch.n_rows else f" of {batch.n_rows:,}"
    name = f"row {row + 1:,}/{n_shown:,}{of_all}"
    if batch.row_classes is not None and row < len(batch.row_classes) and batch.row_classes[row] != IGNORED:
        name += f"; class {_class_text(batch, int(batch.row_classes[row]))}"
    if batch.history is None or row >= len(batch.history.last_step):
        return name
    last_step = int(batch.history.last_step[row])
    times = int(batch.history.times[row])
    return f"{name}; " + ("new" if last_step < 0 else f"used {times:,} times, before at step {last_step + 1:,}")


def _class_text(batch: RecordedBatch, number: int) -> str:
    """Return the name of a class with its number, or the number alone."""
    names = batch.class_names
    return f"{number}, {printable(names[number])}" if number < len(names) else str(number)


def losses_of(batch: RecordedBatch, row: int) -> RowLosses | None:
    """Return what was measured for a row; None if nothing was."""
    if batch.losses is None or row >= len(batch.losses):
        return None
    losses = batch.losses[row]
    if batch.top is None or batch.probabilities is None or row >= len(batch.top):
        return RowLosses(losses, np.zeros((len(losses), 0), np.int64), np.zeros((len(losses), 0), np.float32))
    return RowLosses(losses, batch.top[row], batch.probabilities[row])
