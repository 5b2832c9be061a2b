"""The cells of one example: position, input and target of each token, with the loss as a color."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from rich.text import Text
from textual.binding import Binding
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from tui_lab.app.token_text import token_text
from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Ids
from tui_lab.data.tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]
CELL_WIDTH = 9
NAME_WIDTH = 4
"""Columns of the names t, x and y at the start of a line."""
LINES_PER_ROW = 3
LOSS_BOUNDS = (0.5, 2.0, 4.0)
"""In nats: from p > 0.6, known, to p < 0.02, surprising."""
LOSS_STYLES = tuple(f"#ffffff on {color}" for color in ("#10301c", "#3a3a10", "#5a3510", "#6a1f1f"))
LOSS_MARKS = " ▂▅█"


class Losses(Protocol):
    """What a model gives at each of T positions; see `core.inference.example.CellLosses`."""

    @property
    def losses(self) -> Floats: ...
    @property
    def top(self) -> Ids: ...
    @property
    def probabilities(self) -> Floats: ...


@dataclass(frozen=True)
class Example:
    """x, y: token ids, int64 [T]. next_token: whether the targets are the next tokens.

    losses: None until they are measured.
    """

    tokenizer: Tokenizer
    next_token: bool
    x: Ids
    y: Ids
    losses: Losses | None

    def loss(self, t: int) -> float:
        """Return the loss at position `t` in nats; NaN if it is not measured or the target is ignored."""
        return math.nan if self.losses is None else float(self.losses.losses[t])

    def violates_next_token(self, t: int) -> bool:
        """Return whether y[t] differs from x[t+1] in a next-token task."""
        return self.next_token and t + 1 < len(self.x) and self.y[t] != self.x[t + 1]


class Cells(Static, can_focus=True):
    """Call `show_example`; posts `Selected` when an arrow key or a click selects another cell."""

    BINDINGS = [
        Binding("left", "move(-1)", "Left", show=False),
        Binding("right", "move(1)", "Right", show=False),
        Binding("up", "move_row(-1)", "Up", show=False),
        Binding("down", "move_row(1)", "Down", show=False),
        Binding("home", "select(0)", "First", show=False),
        Binding("end", "select(-1)", "Last", show=False),
    ]

    class Selected(Message):
        """Another cell was selected."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.selected = 0
        """Position of the selected cell."""
        self.per_row = 1
        self._n_cells = 0
        self._n_lines = 0

    def show_example(self, example: Example, per_row: int) -> None:
        """Show the example with `per_row` cells in a row; the selected position stays."""
        self.per_row = per_row
        self._n_cells = len(example.x)
        self.selected = max(0, min(self.selected, self._n_cells - 1))
        text = draw_cells(example, self.selected, per_row)
        n_lines = text.plain.count("\n")
        if text != self.content:
            self.update(text, layout=n_lines != self._n_lines)
        self._n_lines = n_lines

    def on_click(self, event: Click) -> None:
        column = max(0, event.x - NAME_WIDTH) // CELL_WIDTH
        self._select(event.y // LINES_PER_ROW * self.per_row + min(column, self.per_row - 1))

    def action_move(self, by: int) -> None:
        self._select(self.selected + by)

    def action_move_row(self, by: int) -> None:
        self._select(self.selected + by * self.per_row)

    def action_select(self, position: int) -> None:
        self._select(position % max(1, self._n_cells))

    def _select(self, position: int) -> None:
        if self._n_cells:
            self.selected = max(0, min(position, self._n_cells - 1))
            self.post_message(self.Selected())


def draw_cells(example: Example, selected: int, per_row: int) -> Text:
    """Return three lines per row of cells: t, x and y."""
    text = Text()
    for start in range(0, len(example.x), per_row):
        lines = [Text.assemble((f"{name}   ", "dim")) for name in "txy"]
        for t in range(start, min(start + per_row, len(example.x))):
            for line, cell in zip(lines, _draw_cell(example, t, t == selected), strict=True):
                line.append_text(cell)
        for line in lines:
            text.append_text(line).append("\n")
    return text


def _draw_cell(example: Example, t: int, selected: bool) -> tuple[Text, Text, Text]:
    tokenizer = example.tokenizer
    target = int(example.y[t])
    ignored = target == IGNORED
    loss = example.loss(t)
    level = loss_level(loss)
    mark = " " if math.isnan(loss) else LOSS_MARKS[level]
    if example.violates_next_token(t):
        mark = "≠"
    if selected:
        style = "reverse"
    elif ignored:
        style = "dim"
    else:
        style = "" if math.isnan(loss) else LOSS_STYLES[level]
    return (
        Text(fit(f"{t}"), "dim"),
        Text(fit(token_text(tokenizer, int(example.x[t]))), "reverse" if selected else ""),
        Text(fit("–" if ignored else token_text(tokenizer, target), mark), style),
    )


def loss_level(loss: float) -> int:
    """Return the level of a loss, 0 (known) to 3 (surprising)."""
    return 0 if math.isnan(loss) else sum(loss > bound for bound in LOSS_BOUNDS)


def fit(text: str, mark: str = " ") -> str:
    """Return the text padded or shortened to a cell's width, with the mark after it."""
    shown = text if len(text) <= CELL_WIDTH - 2 else text[: CELL_WIDTH - 3] + "…"
    return f"{shown:<{CELL_WIDTH - 2}}{mark} "
