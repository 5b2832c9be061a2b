"""The batch that a loader gave a step: its examples, their shuffle order, and the model's loss on each token."""

import math
from collections.abc import Callable, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tui_lab.app.panes.batch_age import SECONDS_BETWEEN_BATCHES
from tui_lab.app.panes.batch_losses import BatchLosses
from tui_lab.app.panes.batch_text import (
    cell_details,
    example_name,
    position_text,
    shuffle_text,
    step_text,
    used_examples,
)
from tui_lab.app.panes.cells import Cells, Example
from tui_lab.app.panes.copied import example_text
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core import commands as cmd
from tui_lab.data.loader import Batch


class LoadedBatchView(Vertical):
    """Header and cells are always of one step. Losses are gray until they are measured on that step's examples."""

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self.shown_batch: Batch | None = None
        """The batch of header and cells."""
        self.cells = Cells(id="cells")
        self.losses = BatchLosses(send)
        self._now = -math.inf
        """Of the latest drawing, in seconds."""
        self._shown_since = -math.inf
        self._is_kept = False
        """Whether the batch stays for a moment while the model trains on."""
        self._state: LabState | None = None
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="order")
        yield Static(id="shuffle")
        yield Static(id="drawn")
        yield self.cells
        yield Static(id="cell")

    def show(self, state: LabState, step: int, now: float, *, following: bool, kept: bool) -> None:
        """Draw what is new of the batch of `step`, and measure its losses.

        following: whether the model trains and the batch changes with it. kept: whether the batch before it stays
        until it could be read.
        """
        self._state = state
        self._is_kept = kept
        self._now = now
        if self.losses.take(now):
            self._show_cells()
        kept_until = max(self.losses.kept_until, self._shown_since + SECONDS_BETWEEN_BATCHES)
        if self.shown_batch is None or not kept or now >= kept_until:
            self._load(state, step)
        batch = self.shown_batch  # Batches are compared by their parts: arrays, maybe of other shapes.
        drawn = (state.phase, self.size, None if batch is None else (batch.step, batch.ids.tobytes()))
        if drawn != self._drawn:
            self._drawn = drawn
            self._redraw()
        elif batch is not None:
            self._put("#order", self._step_text(batch, state))
        if state.phase != "loading":
            self.losses.request(self._rows_to_measure, state.step, now, following=following)

    def show_at_once(self, state: LabState, step: int, *, kept: bool) -> None:
        """Show the batch of `step`, which the user asked for, without delay. kept: see `show`."""
        self._state = state
        self._is_kept = kept
        self._end_reading_time()
        self._load(state, step)
        self._redraw()

    def rewound(self) -> None:
        """Draw all again, of any batch: a replay went to another step."""
        self._drawn = None
        self._end_reading_time()

    def _end_reading_time(self) -> None:
        """Let the next batch replace this one at once."""
        self.losses.kept_until = -math.inf
        self._shown_since = -math.inf

    def _load(self, state: LabState, step: int) -> None:
        loader = state.loader_at(step)
        if loader is None:
            return
        batch = loader.batch(step)
        if self.shown_batch is None or not _same_examples(self.shown_batch, batch):
            self.shown_batch = batch
            self.losses.start(batch)
            self._shown_since = self._now

    def _redraw(self) -> None:
        """Draw header and cells of the batch."""
        state = self._state
        batch = self.shown_batch
        if state is None or batch is None:
            return
        loader = state.loader_at(batch.step)
        if loader is None:
            return
        self._put("#order", self._step_text(batch, state))
        self._put("#shuffle", shuffle_text(batch, self._width))
        self._put("#drawn", used_examples(batch, loader, self._width))
        self._show_cells()

    def copied(self) -> str:
        """Return the selected example as text, with its step."""
        example = self.cells.example
        if example is None:
            return ""
        step = "" if self.shown_batch is None else f"step {self.shown_batch.step + 1:,}, "
        return example_text(f"{step}{example.name}", example)

    @property
    def _rows_to_measure(self) -> Sequence[int]:
        """The rows that are visible, or all of them if they are sorted by loss."""
        if self.cells.by_loss and self.shown_batch is not None:
            return range(len(self.shown_batch.ids))
        return self.cells.visible_rows

    @property
    def _width(self) -> int:
        return max(10, self.size.width)

    def _step_text(self, batch: Batch, state: LabState) -> Text:
        return step_text(batch, state, self._width, following=self._is_kept)

    def _show_cells(self) -> None:
        ready = None if self._state is None else self._state.ready
        batch = self.shown_batch
        if ready is None or batch is None:
            return
        next_token = ready.task is not None and ready.task.next_token
        examples = [
            Example(
                ready.tokenizer,
                next_token,
                batch.x[row],
                batch.y[row],
                self.losses.of(row),
                row,
                example_name(batch, row),
            )
            for row in range(len(batch.ids))
        ]
        self.cells.show_examples(examples)
        self._show_details(batch)

    def _show_details(self, batch: Batch) -> None:
        example = self.cells.example
        if example is not None:
            title = position_text(batch, example.row, self.cells.selected)
            self._put("#cell", cell_details(title, example, self.cells.selected, self.size.width))

    def _put(self, selector: str, text: Text) -> None:
        update_text(self.query_one(selector, Static), text)

    def on_cells_selected(self) -> None:
        if self.shown_batch is not None:
            self._show_details(self.shown_batch)

    def on_cells_sorted(self) -> None:
        """Measure all examples at once: their order depends on it."""
        self.losses.measure_soon()


def _same_examples(one: Batch, other: Batch) -> bool:
    return (one.step, one.order, len(one.ids)) == (other.step, other.order, len(other.ids))
