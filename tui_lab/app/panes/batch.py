"""The batch pane: the examples of a step, their shuffle order, and the model's loss on each token."""

import math
from collections.abc import Callable, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import DescendantFocus
from textual.widgets import Input, Static

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of, named
from tui_lab.app.panes.batch_losses import BatchLosses
from tui_lab.app.panes.batch_text import (
    cell_details,
    example_name,
    losses_text,
    measured_text,
    position_text,
    shuffle_text,
    step_text,
    used_examples,
)
from tui_lab.app.panes.cells import Cells, Example
from tui_lab.app.panes.copied import example_text
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.recorded_batch import RecordedBatchView
from tui_lab.app.session.attention_source import Rows, rows_of_batch
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.input import Field
from tui_lab.core import commands as cmd
from tui_lab.data.loader import Batch

SCRIPT_HINTS = ("n N row", "m by loss", "A attention")
LATEST_ONLY = "A script makes its own batches: only the latest one is recorded."
SECONDS_BETWEEN_BATCHES = 1.0
"""While the model trains: batches then change faster than one can read."""


class BatchPane(Pane):
    """Header and cells are always of one step. Losses are gray until they are measured on that step's examples."""

    number = 3
    title = "Batch"
    help_name = "batch"
    main = "#cells"
    hints: Sequence[str] = ("n N example", "m by loss", ", . step", "/ go to", "i live", "A attention")

    BINDINGS = named(
        "batch",
        Binding("comma", "goto(-1)", "Previous step", show=False),
        Binding("full_stop", "goto(1)", "Next step", show=False),
        Binding("pageup", "goto(-100)", "100 steps back", show=False),
        Binding("pagedown", "goto(100)", "100 steps forward", show=False),
        Binding("slash", "ask_step", "Go to step", show=False),
        Binding("i", "follow", "Follow", show=False),
        Binding("escape", "follow", "Follow", show=False),
    )

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self.chosen_step: int | None = None
        """The step the user went to, counted from 0; None: follow the live step."""
        self.shown_batch: Batch | None = None
        """The batch of header and cells."""
        self._losses = BatchLosses(send)
        self._shown_since = -math.inf
        self._state: LabState | None = None
        self._drawn: object = None
        self._shown_at = -math.inf
        self._is_script = False
        self.is_replay = False
        """Then the batch is always that of the step shown: who wants to read it pauses the replay."""

    def compose(self) -> ComposeResult:
        with Vertical(id="loaded-batch"):
            yield Static(id="order")
            yield Static(id="shuffle")
            yield Static(id="drawn")
            yield Cells(id="cells")
            yield Static(id="cell")
            yield Field(id="goto", placeholder="step", type="integer")
        yield RecordedBatchView(id="recorded-batch")

    def show_script(self) -> None:
        """Show the batches that are recorded from a script from now on."""
        self._is_script = True
        self.hints = SCRIPT_HINTS
        self.main = "#recorded-cells"
        had_focus = self.query_one("#cells").has_focus
        self.query_one("#loaded-batch").display = False
        self._recorded.display = True
        if had_focus:
            self.focus_now(self.query_one(self.main))

    @property
    def _recorded(self) -> RecordedBatchView:
        return self.query_one(RecordedBatchView)

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        if self._is_script:
            self._recorded.show(state, now)
            return
        if state.ready is None:
            return
        if self._losses.take(now):
            self._show_cells()
        self._shown_at = now
        self._choose_batch(state, now)
        batch = self.shown_batch  # Batches are compared by their parts: arrays, maybe of other shapes.
        drawn = (state.phase, self.size, None if batch is None else (batch.step, batch.ids.tobytes()))
        if drawn != self._drawn:
            self._drawn = drawn
            self.redraw()
        elif self.shown_batch is not None:
            self.put("#order", self._step_text(self.shown_batch, state))
        if state.phase != "loading":
            self._losses.request(self._rows_to_measure, state.step, now, following=self._following)

    def summary(self, state: LabState) -> str:
        if self._is_script or state.ready is None:
            return ""
        return f"the examples of step {self.step_shown(state) + 1:,}"

    @property
    def _rows_to_measure(self) -> Sequence[int]:
        """The rows that are visible, or all of them if they are sorted by loss."""
        cells = self.query_one("#cells", Cells)
        if cells.by_loss and self.shown_batch is not None:
            return range(len(self.shown_batch.ids))
        return cells.visible_rows

    def _choose_batch(self, state: LabState, now: float) -> None:
        """Show the batch of the step that the user went to or of the latest; a live one not before it can be read."""
        step = self.step_shown(state)
        loader = state.loader_at(step)
        if loader is None:
            return
        shown = self.shown_batch
        kept_until = max(self._losses.kept_until, self._shown_since + SECONDS_BETWEEN_BATCHES)
        if shown is not None and self._following and not self.is_replay and now < kept_until:
            return
        batch = loader.batch(step)
        if shown is None or not _same_examples(shown, batch):
            self.shown_batch = batch
            self._losses.start(batch)
            self._shown_since = now

    def _show_title(self) -> None:
        title = self._title_of(self._losses_text())
        if not self.is_line and title != self.border_title:
            self.border_title = title

    def _losses_text(self) -> str:
        """Return what the losses are and with which weights, if that is not plain, or why there are none."""
        losses = self._losses
        config = None if self._state is None else self._state.trainer_config
        if not losses.problem:
            if losses.weights is None and losses.model_step >= 0 and config is not None and config.faults:
                n_free = self.content_size.width - len(f"{self.number} {self.title}  ")
                return measured_text(None if self._following else losses.model_step, n_free)
            return losses_text(losses.weights)
        saves = bool(self.screen.check_action("do", ("checkpoint",)))
        key = keymap_of(self.app).key_of(BY_ID["checkpoint"]) if saves else ""
        return "loss needs a checkpoint" + (f" ({key})" if key else "")

    def current_example(self, state: LabState) -> tuple[Rows, int] | None:
        """Return the rows and which of them is shown, or would be if the pane were visible; None before the start."""
        if state.is_script:
            return self._recorded.current_row(state)
        if self.display and not self.is_line and self.shown_batch is not None:
            batch = self.shown_batch
        else:
            step = self.step_shown(state)
            loader = state.loader_at(step)
            if loader is None:
                return None
            batch = loader.batch(step)
        return rows_of_batch(batch), self.query_one("#cells", Cells).row % len(batch.ids)

    def copied(self) -> str:
        """Return the current example."""
        cells = self.query_one("#recorded-cells" if self._is_script else "#cells", Cells)
        if cells.example is None:
            return ""
        step = "" if self.shown_batch is None else f"step {self.shown_batch.step + 1:,}, "
        return example_text(f"{step}{cells.example.name}", cells.example)

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
        """Whether the pane follows a live run."""
        return self.chosen_step is None and self._state is not None and self._state.phase == "running"

    def rewound(self) -> None:
        self._drawn = None
        self._losses.kept_until = -math.inf
        self._shown_since = -math.inf

    def redraw(self) -> None:
        """Draw header and cells of the batch that is shown."""
        state = self._state
        batch = self.shown_batch
        if state is None or batch is None:
            return
        loader = state.loader_at(batch.step)
        if loader is None:
            return
        width = max(10, self.content_size.width)
        self.put("#order", self._step_text(batch, state))
        self.put("#shuffle", shuffle_text(batch, width))
        self.put("#drawn", used_examples(batch, loader, width))
        self._show_cells()

    def _step_text(self, batch: Batch, state: LabState) -> Text:
        config = state.trainer_config
        width = max(10, self.content_size.width)
        return step_text(batch, state.step, width, 0 if config is None else config.train.steps)

    def _show_cells(self) -> None:
        state = self._state
        batch = self.shown_batch
        if state is None or state.ready is None or batch is None:
            return
        self._show_title()
        ready = state.ready
        next_token = ready.task is not None and ready.task.next_token
        examples = [
            Example(
                ready.tokenizer,
                next_token,
                batch.x[row],
                batch.y[row],
                self._losses.of(row),
                row,
                example_name(batch, row),
            )
            for row in range(len(batch.ids))
        ]
        cells = self.query_one("#cells", Cells)
        cells.show_examples(examples)
        self._show_details(cells, batch)

    def _show_details(self, cells: Cells, batch: Batch) -> None:
        example = cells.example
        if example is not None:
            title = position_text(batch, example.row, cells.selected)
            self.put("#cell", cell_details(title, example, cells.selected, self.size.width))

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """Measure at once: the user looks here."""
        self._losses.measure_soon()

    def on_cells_selected(self) -> None:
        if self.shown_batch is not None and not self._is_script:
            self._show_details(self.query_one("#cells", Cells), self.shown_batch)

    def on_cells_sorted(self) -> None:
        """Measure all examples at once: their order depends on it."""
        self._losses.measure_soon()

    def action_goto(self, by: int) -> None:
        if self._state is not None:
            self.go_to(self.step_shown(self._state) + by)

    def go_to(self, step: int) -> None:
        """Show the batch of `step`, past or future."""
        if self._state is None or self._refused():
            return
        loaders = self._state.loaders
        self.chosen_step = max(loaders[0].from_step if loaders else 0, step)
        self._show_chosen()

    def _refused(self) -> bool:
        """Say that there are no other batches, if so."""
        if self._is_script:
            self.app.notify(LATEST_ONLY)
        return self._is_script

    def action_follow(self) -> None:
        if self._is_script:
            return
        self.chosen_step = None
        self.query_one("#goto", Input).display = False
        self.focus_now(self.query_one("#cells"))
        self._show_chosen()

    def _show_chosen(self) -> None:
        """Show the batch that was asked for without delay."""
        self._losses.kept_until = -math.inf
        self._shown_since = -math.inf
        if self._state is not None:
            self._choose_batch(self._state, self._shown_at)
        self.redraw()

    def action_ask_step(self) -> None:
        if self._refused():
            return
        field = self.query_one("#goto", Input)
        field.display = True
        field.value = ""
        self.focus_now(field)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip().lstrip("-").isdigit():
            self.go_to(int(event.value) - 1)  # Users count from 1.
        event.input.display = False
        self.focus_now(self.query_one("#cells"))


def _same_examples(one: Batch, other: Batch) -> bool:
    return (one.step, one.order, len(one.ids)) == (other.step, other.order, len(other.ids))
