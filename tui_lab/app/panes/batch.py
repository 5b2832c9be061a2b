"""The batch pane: which x and which y a step trains on, in which order, and what the model makes of it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.events import Click
from textual.message import Message
from textual.widgets import Input, Static

from tui_lab.app.panes.pane import Pane
from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.histogram_bar import strip
from tui_lab.app.widgets.input import Field
from tui_lab.core import commands as cmd
from tui_lab.data.dataset import IGNORED, Task
from tui_lab.data.loader import Batch, Loader
from tui_lab.data.tokenizers import bytes_of, show

if TYPE_CHECKING:
    from tui_lab.core.inference.example import CellLosses
    from tui_lab.core.user_code.external_model import Model

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_BETWEEN_DRAWINGS = 0.25
LOOKING_SHARE = 0.002
"""Of the training's time: with GPT-2's vocabulary a look costs a twentieth of a step."""
REMEMBERED_STEPS = 64
CELL, NAME, LINES_A_ROW = 9, 4, 3
"""Columns of a cell, and of the names t, x and y before them."""
HEAT = tuple(f"#ffffff on {colour}" for colour in ("#10301c", "#3a3a10", "#5a3510", "#6a1f1f"))
MARKS = " ▂▅█"


@dataclass(frozen=True)
class Look:
    """The losses of one row of a batch, from the trainer's thread, and the seconds they took."""

    batch: Batch
    row: int
    losses: "CellLosses"
    seconds: float


class Cells(Static, can_focus=True):
    """The cells; the arrows move over them."""

    BINDINGS = [
        Binding("left", "move(-1)", "Left", show=False),
        Binding("right", "move(1)", "Right", show=False),
        Binding("up", "line(-1)", "Up", show=False),
        Binding("down", "line(1)", "Down", show=False),
        Binding("home", "edge(0)", "First", show=False),
        Binding("end", "edge(1)", "Last", show=False),
    ]

    class Moved(Message):
        """by: cells, or lines of cells, or 0 and 1 for the ends, or the row and column of a click."""

        def __init__(self, kind: str, by: "int | tuple[int, int]") -> None:
            super().__init__()
            self.kind, self.by = kind, by

    def on_click(self, event: Click) -> None:
        """To the cell under the mouse: three lines a row of cells, the names in the first columns."""
        self.post_message(self.Moved("click", (event.y // LINES_A_ROW, max(0, event.x - NAME) // CELL)))

    def action_move(self, by: int) -> None:
        self.post_message(self.Moved("cell", by))

    def action_line(self, by: int) -> None:
        self.post_message(self.Moved("line", by))

    def action_edge(self, end: int) -> None:
        self.post_message(self.Moved("edge", end))


class BatchPane(Pane):
    number, title, help_name, main = 3, "Batch", "batch", "#cells"

    BINDINGS = [
        Binding("comma", "goto(-1)", "Previous step", show=False),
        Binding("full_stop", "goto(1)", "Next step", show=False),
        Binding("pageup", "goto(-100)", "100 steps back", show=False),
        Binding("pagedown", "goto(100)", "100 steps forward", show=False),
        Binding("n", "example(1)", "Next example", show=False),
        Binding("N", "example(-1)", "Previous example", show=False),
        Binding("slash", "ask", "Go to step", show=False),
        Binding("i", "follow", "Follow", show=False),
        Binding("escape", "follow", "Follow", show=False),
    ]

    def __init__(self, id: str, send: Callable[[cmd.Command], None]) -> None:
        super().__init__(id=id)
        self._send = send
        self._looks: Buffer[Look] = Buffer()
        self.chosen_step: int | None = None
        self.example, self.cell = 0, 0
        self.held: Batch | None = None
        self.losses: CellLosses | None = None
        self._looked_for: object = None
        self._looked_at, self._drawn_at = -math.inf, -math.inf
        self._drawn: object = None
        self._state: LabState | None = None
        self._lines, self._look_seconds = 0, 0.0

    def compose(self) -> ComposeResult:
        yield Static(id="order")
        yield Static(id="drawn")
        with VerticalScroll(can_focus=False):
            yield Cells(id="cells")
        yield Static(id="cell")
        yield Field(id="goto", placeholder="step", type="integer")

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        for look in self._looks.drain():
            self._take_look(look)
        if state.ready is None or now - self._drawn_at < SECONDS_BETWEEN_DRAWINGS:
            return
        news = (state.step, state.phase, self.chosen_step, len(state.loaders), self.size, self.example)
        if news != self._drawn:
            self._drawn, self._drawn_at = news, now
            self.redraw()
        self._look(state, now)

    def looked_at(self, state: LabState) -> tuple[Batch, int] | None:
        """The batch that is shown, or would be, and which of its examples; None before a run is open."""
        step = self.step_shown(state)
        loader = state.loader_at(step)
        held = self.held if self.display and self.held is not None else loader.batch(step) if loader else None
        return None if held is None else (held, self.example % len(held.ids))

    def step_shown(self, state: LabState) -> int:
        """The step gone to, or the newest one trained on."""
        return self.chosen_step if self.chosen_step is not None else max(0, state.step - 1)

    @property
    def _flowing(self) -> bool:
        """Whether batches come faster than one reads: then the cells stay until the next look at the model."""
        return self.chosen_step is None and self._state is not None and self._state.phase == "running"

    def redraw(self) -> None:
        state = self._state
        if state is None or state.ready is None:
            return
        step = self.step_shown(state)
        loader = state.loader_at(step)
        if loader is None:
            return
        newest = loader.batch(step)
        held = self.held
        if held is None or not self._flowing and (held.step, held.order, len(held.ids)) != (
            step, newest.order, len(newest.ids)
        ):  # fmt: skip
            self.held, self.losses = newest, None
        self.put("#order", self._order(newest, state))
        self.put("#drawn", self._drawn_strip(newest, loader))
        self._show_held(state)

    def _order(self, batch: Batch, state: LabState) -> Text:
        order = batch.order
        live = "" if self.chosen_step is None else ("  future" if batch.step >= state.step else "  past")
        ids = " ".join(map(str, batch.ids[:6])) + (" …" if len(batch.ids) > 6 else "")
        head = " ".join(map(str, batch.head[:6]))
        return Text.assemble(
            (f"step {batch.step:,}{live}", "bold"),
            f"  epoch {batch.epoch} at {batch.position:,}/{order.n:,}  shuffle ",
            (order.mode, "bold"),
            f" seed {order.seed}, order {head} …\nexamples {ids}",
        )

    def _drawn_strip(self, batch: Batch, loader: Loader) -> Text:
        """Over all datapoints, which the last steps drew."""
        drawn = loader.drawn_between(max(loader.from_step, batch.step - REMEMBERED_STEPS + 1), batch.step)
        # A loader that draws what it should not draws from all there is.
        n = batch.order.n if int(drawn.max()) < batch.order.n else loader.dataset.n_examples
        width = max(10, self.size.width - 37)
        return Text.assemble(
            (f"last {REMEMBERED_STEPS} steps ", "dim"),
            strip(drawn.tolist(), n, width),
            (f" {len(np.unique(drawn)):,} of {n:,}", "dim"),
        )

    def columns(self) -> int:
        """Cells in a line."""
        return max(1, (self.size.width - 8) // CELL)

    def _grid(self, batch: Batch, task: Task) -> Text:
        x, y = batch.x[self.example], batch.y[self.example]
        text = Text()
        across, tokens = self.columns(), x.tolist()
        for start in range(0, len(x), across):
            places = range(start, min(start + across, len(x)))
            lines = [Text.assemble((f"{name}   ", "dim")) for name in "txy"]
            for t in places:
                for line, cell in zip(lines, self._cell(t, int(x[t]), int(y[t]), tokens, task), strict=True):
                    line.append_text(cell)
            for line in lines:
                text.append_text(line).append("\n")
        return text

    def _cell(self, t: int, given: int, wanted: int, tokens: list[int], task: Task) -> tuple[Text, Text, Text]:
        here = t == self.cell
        ignored = wanted == IGNORED
        broken = task.next_token and t + 1 < len(tokens) and wanted != tokens[t + 1]
        loss = math.nan if self.losses is None else float(self.losses.losses[t])
        level = heat(loss)
        heated = "" if math.isnan(loss) else HEAT[level]
        mark = "≠" if broken else (" " if math.isnan(loss) else MARKS[level])
        style = "reverse" if here else heated
        target = "–" if ignored else show(task.tokenizer, wanted)
        return (
            Text(fit(f"{t}"), "dim"),
            Text(fit(show(task.tokenizer, given)), "reverse" if here else ""),
            Text(fit(target, mark), "dim" if ignored and not here else style),
        )

    def _about(self, batch: Batch, task: Task) -> Text:
        x, y, t = batch.x[self.example], batch.y[self.example], self.cell
        given, wanted = int(x[t]), int(y[t])
        offset = "" if batch.offsets is None else f", token {int(batch.offsets[self.example]) + t:,} of the source"
        text = Text.assemble(
            (f"example {batch.ids[self.example]} ({self.example + 1}/{len(batch.ids)}), t = {t}{offset}\n", "dim"),
            ("x ", "bold"), f"{named(task, given)}   ", ("y ", "bold"),
            "-1: ignored by the loss, no target here" if wanted == IGNORED else named(task, wanted),
        )  # fmt: skip
        if self.losses is not None:
            loss = float(self.losses.losses[t])
            text.append("\n" if math.isnan(loss) else f"\nloss {loss:.3f}, p = {math.exp(-loss):.3f}. ")
            text.append("top 5: ", "dim")
            for token, p in zip(self.losses.top[t].tolist(), self.losses.probabilities[t].tolist(), strict=True):
                style = "bold green" if token == wanted else ""
                text.append(f"{show(task.tokenizer, token)} ({p:.2f})  ", style)
        return text

    def _look(self, state: LabState, now: float) -> None:
        """Ask what the model makes of an example: at once for one gone to, every two seconds for those that flow."""
        if self.held is None or state.phase == "loading":
            return
        step = self.step_shown(state)
        wanted = (step, self.example, state.step)
        dear = self._look_seconds / LOOKING_SHARE
        pause = max(SECONDS_BETWEEN_LOOKS, dear) if self._flowing else SECONDS_BETWEEN_DRAWINGS
        loader = state.loader_at(step)
        if loader is None or wanted == self._looked_for or now - self._looked_at < pause:
            return
        self._looked_for, self._looked_at = wanted, now
        batch = loader.batch(step)
        row = self.example % len(batch.ids)
        x, y, put = batch.x[row], batch.y[row], self._looks.put

        def look(model: "Model") -> None:
            from tui_lab.core.inference.example import cell_losses

            began = time.perf_counter()
            losses = cell_losses(model, x, y)
            put(Look(batch, row, losses, time.perf_counter() - began))

        self._send(cmd.Inspect(look))

    def _take_look(self, look: Look) -> None:
        """Show the losses, unless another step or example was selected meanwhile."""
        self._look_seconds = look.seconds
        state = self._state
        if state is None or self.held is None:
            return
        here = look.batch.step == self.step_shown(state) or self._flowing
        if here and look.row == self.example % len(look.batch.ids):
            self.held = look.batch
            self.losses = look.losses
            self._show_held(state)

    def _show_held(self, state: LabState) -> None:
        if state.ready is None or self.held is None:
            return
        self.example %= len(self.held.ids)
        self.cell = max(0, min(self.cell, self.held.x.shape[1] - 1))
        cells = self._grid(self.held, state.ready.task)
        lines = cells.plain.count("\n")
        self.put("#cells", cells, layout=lines != self._lines)
        self._lines = lines
        self.put("#cell", self._about(self.held, state.ready.task))

    def on_cells_moved(self, event: Cells.Moved) -> None:
        if self.held is None:
            return
        last = self.held.x.shape[1] - 1
        if isinstance(event.by, tuple):
            row, column = event.by
            target = row * self.columns() + min(column, self.columns() - 1)
        else:
            by, across = event.by, self.columns()
            target = {"cell": self.cell + by, "line": self.cell + by * across, "edge": by * last}[event.kind]
        self.cell = max(0, min(last, target))
        if self._state is not None and self._state.ready is not None:
            self._show_held(self._state)

    def action_goto(self, by: int) -> None:
        if self._state is not None:
            self.go_to(self.step_shown(self._state) + by)

    def go_to(self, step: int) -> None:
        """Show the batch of any step, past or future."""
        state = self._state
        if state is None:
            return
        first = state.loaders[0].from_step if state.loaders else 0
        self.chosen_step = max(first, step)
        self.redraw()

    def action_example(self, by: int) -> None:
        self.example += by
        self.losses, self._looked_at = None, -math.inf
        self.redraw()

    def action_follow(self) -> None:
        self.chosen_step = None
        self.query_one("#goto", Input).display = False
        self.query_one("#cells").focus()
        self.redraw()

    def action_ask(self) -> None:
        box = self.query_one("#goto", Input)
        box.display = True
        box.value = ""
        box.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if event.value.strip().lstrip("-").isdigit():
            self.go_to(int(event.value))
        event.input.display = False
        self.query_one("#cells").focus()


def heat(loss: float) -> int:
    """0 … 3, from known (p > 0.6) to surprising (p < 0.02)."""
    return 0 if math.isnan(loss) else sum(loss > bound for bound in (0.5, 2.0, 4.0))


def fit(text: str, mark: str = " ") -> str:
    """A cell's text in CELL columns, the last one for the mark."""
    shown = text if len(text) <= CELL - 2 else text[: CELL - 3] + "…"
    return f"{shown:<{CELL - 2}}{mark} "


def named(task: Task, token: int) -> str:
    """A token with its id and bytes."""
    raw = bytes_of(task.tokenizer, token)
    return f"{show(task.tokenizer, token)} id {token} bytes {raw.hex(' ')}"
