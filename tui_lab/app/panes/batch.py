"""The batch pane: the examples of a step, their shuffle order, and the model's loss on each token."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Input, Static

from tui_lab.app.panes.batch_text import cell_details, example_title, shuffle_state, used_examples
from tui_lab.app.panes.cells import CELL_WIDTH, Cells, Example
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.recorded_batch import RecordedBatchView
from tui_lab.app.session.attention_source import Rows, rows_of_batch
from tui_lab.app.session.inspector import Inspector
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.core import commands as cmd
from tui_lab.data.loader import Batch

if TYPE_CHECKING:
    from tui_lab.core.inference.example import CellLosses
    from tui_lab.core.user_code.external_model import Model

LATEST_ONLY = "A script makes its own batches: only the latest one is recorded."
SECONDS_BETWEEN_MEASUREMENTS = 2.0
SECONDS_BETWEEN_DRAWINGS = 0.25


@dataclass(frozen=True)
class Measurement:
    """The losses of the example in `row` of the batch."""

    batch: Batch
    row: int
    losses: "CellLosses"


class BatchPane(Pane):
    number = 3
    title = "Batch"
    help_name = "batch"
    main = "#cells"

    BINDINGS = [
        Binding("comma", "goto(-1)", "Previous step", show=False),
        Binding("full_stop", "goto(1)", "Next step", show=False),
        Binding("pageup", "goto(-100)", "100 steps back", show=False),
        Binding("pagedown", "goto(100)", "100 steps forward", show=False),
        Binding("n", "example(1)", "Next example", show=False),
        Binding("N", "example(-1)", "Previous example", show=False),
        Binding("slash", "ask_step", "Go to step", show=False),
        Binding("i", "follow", "Follow", show=False),
        Binding("escape", "follow", "Follow", show=False),
    ]

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self.chosen_step: int | None = None
        """The step the user went to; None: follow the live step."""
        self.example = 0
        """The row of the batch that is shown."""
        self.shown_batch: Batch | None = None
        """The batch whose cells are shown."""
        self._losses: CellLosses | None = None
        self._inspector: Inspector[Measurement] = Inspector(send)
        self._state: LabState | None = None
        self._drawn: object = None
        self._drawn_at = -math.inf
        self._is_script = False

    def compose(self) -> ComposeResult:
        with Vertical(id="loaded-batch"):
            yield Static(id="order")
            yield Static(id="drawn")
            with VerticalScroll(can_focus=False):
                yield Cells(id="cells")
            yield Static(id="cell")
            yield Field(id="goto", placeholder="step", type="integer")
        yield RecordedBatchView(id="recorded-batch")

    def show_script(self) -> None:
        """Show the batches that are recorded from a script from now on."""
        self._is_script = True
        self.main = "#recorded-cells"
        had_focus = self.query_one("#cells").has_focus
        self.query_one("#loaded-batch").display = False
        self._recorded.display = True
        if had_focus:
            self.query_one(self.main).focus()

    @property
    def _recorded(self) -> RecordedBatchView:
        return self.query_one(RecordedBatchView)

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        if self._is_script:
            self._recorded.show(state, now)
            return
        for inspection in self._inspector.drain():
            self._take_measurement(inspection.result)
        if state.ready is None or now - self._drawn_at < SECONDS_BETWEEN_DRAWINGS:
            return
        drawn = (state.step, state.phase, self.chosen_step, len(state.loaders), self.size, self.example)
        if drawn != self._drawn:
            self._drawn = drawn
            self._drawn_at = now
            self.redraw()
        self._request_losses(state, now)

    def current_example(self, state: LabState) -> tuple[Rows, int] | None:
        """Return the rows and which of them is shown, or would be if the pane were visible; None before the start."""
        if state.is_script:
            return self._recorded.current_row(state)
        if self.display and self.shown_batch is not None:
            batch = self.shown_batch
        else:
            step = self.step_shown(state)
            loader = state.loader_at(step)
            if loader is None:
                return None
            batch = loader.batch(step)
        return rows_of_batch(batch), self.example % len(batch.ids)

    @property
    def has_batch(self) -> bool:
        """Whether a batch of a script was recorded."""
        reading = self._recorded.reading
        return reading is not None and reading.batch is not None

    def step_shown(self, state: LabState) -> int:
        """Return the step the user went to, or the latest step."""
        return self.chosen_step if self.chosen_step is not None else max(0, state.step - 1)

    @property
    def _following(self) -> bool:
        """Whether the pane follows a live run: batches then change faster than one can read, so the cells stay
        until their losses are measured again."""
        return self.chosen_step is None and self._state is not None and self._state.phase == "running"

    @property
    def cells_per_row(self) -> int:
        return max(1, (self.size.width - 8) // CELL_WIDTH)

    def redraw(self) -> None:
        state = self._state
        if state is None or state.ready is None:
            return
        step = self.step_shown(state)
        loader = state.loader_at(step)
        if loader is None:
            return
        batch = loader.batch(step)
        if self.shown_batch is None or (not self._following and not _same_examples(self.shown_batch, batch)):
            self.shown_batch = batch
            self._losses = None
        when = "" if self.chosen_step is None else "future" if step >= state.step else "past"
        self.put("#order", shuffle_state(batch, when))
        self.put("#drawn", used_examples(batch, loader, max(10, self.size.width - 37)))
        self._show_cells()

    def _show_cells(self) -> None:
        if self._state is None or self._state.ready is None or self.shown_batch is None:
            return
        batch = self.shown_batch
        self.example %= len(batch.ids)
        ready = self._state.ready
        next_token = ready.task is not None and ready.task.next_token
        x, y = batch.x[self.example], batch.y[self.example]
        example = Example(ready.tokenizer, next_token, x, y, self._losses)
        cells = self.query_one("#cells", Cells)
        cells.show_example(example, self.cells_per_row)
        title = example_title(batch, self.example, cells.selected)
        self.put("#cell", cell_details(title, example, cells.selected, self.size.width))

    def _request_losses(self, state: LabState, now: float) -> None:
        """Measure the losses of the shown step's example, at once or at intervals while following."""
        step = self.step_shown(state)
        loader = state.loader_at(step)
        if self.shown_batch is None or state.phase == "loading" or loader is None:
            return
        batch = loader.batch(step)
        row = self.example % len(batch.ids)

        def measure(model: "Model") -> Measurement:
            from tui_lab.core.inference.example import cell_losses

            return Measurement(batch, row, cell_losses(model, batch.x[row], batch.y[row]))

        pause = SECONDS_BETWEEN_MEASUREMENTS if self._following else SECONDS_BETWEEN_DRAWINGS
        key = (step, self.example, state.step)
        self._inspector.request(key, measure, now, min_pause=pause, running=self._following)

    def _take_measurement(self, measurement: Measurement) -> None:
        """Show the measured batch, unless the user has gone to another one in the meantime."""
        batch = measurement.batch
        if self._state is None or self.shown_batch is None:
            return
        wanted = self._following or batch.step == self.step_shown(self._state)
        if wanted and measurement.row == self.example % len(batch.ids):
            self.shown_batch = batch
            self._losses = measurement.losses
            self._show_cells()

    def on_cells_selected(self) -> None:
        self._show_cells()

    def action_goto(self, by: int) -> None:
        if self._state is not None:
            self.go_to(self.step_shown(self._state) + by)

    def go_to(self, step: int) -> None:
        """Show the batch of `step`, past or future."""
        if self._state is None or self._refused():
            return
        loaders = self._state.loaders
        self.chosen_step = max(loaders[0].from_step if loaders else 0, step)
        self.redraw()

    def _refused(self) -> bool:
        """Say that there are no other batches, if so."""
        if self._is_script:
            self.app.notify(LATEST_ONLY)
        return self._is_script

    def action_example(self, by: int) -> None:
        if self._is_script:
            self._recorded.move(by)
            return
        self.example += by
        self._losses = None
        self._inspector.reset()
        self.redraw()

    def action_follow(self) -> None:
        if self._is_script:
            return
        self.chosen_step = None
        self.query_one("#goto", Input).display = False
        self.query_one("#cells").focus()
        self.redraw()

    def action_ask_step(self) -> None:
        if self._refused():
            return
        field = self.query_one("#goto", Input)
        field.display = True
        field.value = ""
        field.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip().lstrip("-").isdigit():
            self.go_to(int(event.value))
        event.input.display = False
        self.query_one("#cells").focus()


def _same_examples(one: Batch, other: Batch) -> bool:
    return (one.step, one.order, len(one.ids)) == (other.step, other.order, len(other.ids))
