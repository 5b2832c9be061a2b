"""The cells of the examples of a batch: each input over its target, with the loss as a color."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.binding import Binding
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.token_text import token_text
from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Ids
from tui_lab.data.tokenizers import Tokenizer

Floats = npt.NDArray[np.float32]
NAME_WIDTH = 3
"""Columns of the names x and y at the start of a line."""
MAX_TOKEN_WIDTH = 14
"""Columns of a token's text; longer ones are cut."""
LOSS_BOUNDS = (0.5, 2.0, 4.0)
"""In nats: from p > 0.6, known, to p < 0.02, surprising."""
LOSS_MARKS = " ▂▅█"


class LossStyle(NamedTuple):
    """How a target is drawn. text: style of its token; mark: style of the mark after it, which is fainter."""

    text: str
    mark: str


def _loss_styles(text: str, *levels: tuple[str, str]) -> tuple[LossStyle, ...]:
    return tuple(LossStyle(f"{text} on {cell}", f"{mark} on {cell}") for cell, mark in levels)


DARK_LOSS_STYLES = _loss_styles(
    "#ffffff", ("#14303f", "#3d6478"), ("#3c3d63", "#6c6da0"), ("#7a3558", "#ad6689"), ("#a8401f", "#d68466")
)
LIGHT_LOSS_STYLES = _loss_styles(
    "#000000", ("#dcecf5", "#9dbfd2"), ("#d3d0ee", "#a49fd0"), ("#f2bfd2", "#cf86a3"), ("#f5a56f", "#c4692b")
)
"""From blue to orange, so that they differ with any color vision; the text has a contrast of at least 4.5."""


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

    losses: None until they are measured. row: of the batch. name: what identifies it, shown above it. targets: how
    targets and predictions are shown if they are not tokens of `tokenizer`. ignored: what the program has as a target
    that its loss skips; y has IGNORED.
    """

    tokenizer: Tokenizer
    next_token: bool
    x: Ids
    y: Ids
    losses: Losses | None
    row: int = 0
    name: str = ""
    targets: Tokenizer | None = None
    ignored: int = IGNORED

    @property
    def target_tokenizer(self) -> Tokenizer:
        """How targets and predictions are shown."""
        return self.tokenizer if self.targets is None else self.targets

    def loss(self, t: int) -> float:
        """Return the loss at position `t` in nats; NaN if it is not measured or the target is ignored."""
        return math.nan if self.losses is None else float(self.losses.losses[t])

    @property
    def mean_loss(self) -> float:
        """The mean loss of the targets that count, in nats; NaN if it is not measured or none counts."""
        if self.losses is None:
            return math.nan
        counted = self.losses.losses[~np.isnan(self.losses.losses)]
        return float(counted.mean()) if len(counted) else math.nan

    def violates_next_token(self, t: int) -> bool:
        """Return whether y[t] is counted and differs from x[t+1] in a next-token task."""
        is_counted = self.y[t] != IGNORED
        return self.next_token and is_counted and t + 1 < len(self.x) and self.y[t] != self.x[t + 1]


class Cell(NamedTuple):
    """The texts of one position, and how many columns it takes, with the mark after it."""

    t: int
    x: str
    y: str
    width: int


class Line(NamedTuple):
    """A line on the screen. place: of the example in the order shown. cells: of the line; none for a title."""

    place: int
    text: Text
    cells: Sequence[Cell] = ()


class Cells(Static, can_focus=True):
    """Call `show_examples`; posts `Selected` when a key or a click selects another cell.

    As many examples are shown as fit below the selected one.
    """

    BINDINGS = named(
        "batch",
        Binding("left,h", "move(-1)", "Left", show=False),
        Binding("right,l", "move(1)", "Right", show=False),
        Binding("up,k", "move_line(-1)", "Up", show=False),
        Binding("down,j", "move_line(1)", "Down", show=False),
        Binding("home", "select_cell(0)", "First", show=False),
        Binding("end", "select_cell(-1)", "Last", show=False),
        Binding("n", "example(1)", "Next example", show=False),
        Binding("N", "example(-1)", "Previous example", show=False),
        Binding("m", "sort", "Sort by loss", show=False),
    )

    class Selected(Message):
        """Another cell was selected."""

    class Sorted(Message):
        """The examples were put into another order."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.by_loss = False
        """Whether the examples are sorted by loss; otherwise they are in the order of the batch."""
        self.selected = 0
        """Position of the selected cell in its example."""
        self.index = 0
        """The selected example, an index into those that are shown."""
        self._first = 0
        """The first example on the screen."""
        self._unsorted: Sequence[Example] = ()
        self._examples: Sequence[Example] = ()
        """In the order in which they are shown."""
        self._lines: list[Line] = []

    def on_mount(self) -> None:
        self.watch(self.app, "theme", self.redraw, init=False)

    @property
    def example(self) -> Example | None:
        """The selected example."""
        return self._examples[self.index] if self._examples else None

    @property
    def row(self) -> int:
        """The selected example's row of the batch."""
        return 0 if self.example is None else self.example.row

    @property
    def visible_rows(self) -> list[int]:
        """The rows of the batch of which at least a part is on the screen."""
        return [self._examples[index].row for index in dict.fromkeys(line.place for line in self._lines)]

    def show_examples(self, examples: Sequence[Example]) -> None:
        """Show the examples of a batch; the selected place stays."""
        self._unsorted = examples
        self._examples = by_loss(examples) if self.by_loss else examples
        self._clamp()
        self.redraw()

    def go_to(self, index: int, position: int) -> None:
        """Select a cell of an example, an index into those that are shown, and show the example first."""
        self._first = index
        self._select(index, position)

    def redraw(self) -> None:
        if not self._examples or not self.size.width:
            self._lines = []  # Those of earlier examples would name places that no longer exist.
            return
        self._lines = self._visible_lines()
        text = Text("\n").join(line.text for line in self._lines)
        if text != self.content:
            self.update(text, layout=False)

    def on_resize(self) -> None:
        self.redraw()

    def on_click(self, event: Click) -> None:
        if event.y >= len(self._lines):
            return
        line = self._lines[event.y]
        t = _cell_at(line.cells, event.x - NAME_WIDTH)
        self._select(line.place, self.selected if t is None else t)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.action_move_line(1)

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.action_move_line(-1)

    def action_sort(self) -> None:
        """Sort the examples by their loss, or as they are in the batch."""
        self.by_loss = not self.by_loss
        self.show_examples(self._unsorted)
        self.post_message(self.Sorted())
        self.post_message(self.Selected())

    def action_move(self, by: int) -> None:
        self._select(self.index, self.selected + by)

    def action_select_cell(self, position: int) -> None:
        example = self.example
        if example is not None:
            self._select(self.index, position % len(example.x))

    def action_example(self, by: int) -> None:
        if self._examples:
            self._select((self.index + by) % len(self._examples), self.selected)

    def action_move_line(self, by: int) -> None:
        """Move to the cell above or below, which may be in another example."""
        example = self.example
        if example is None:
            return
        rows = self._rows_of(example)
        at = next(i for i, row in enumerate(rows) if row[-1].t >= self.selected)
        column = _column_of(rows[at], self.selected)
        at += by
        index = self.index
        if not 0 <= at < len(rows):
            index = self.index + by
            if not 0 <= index < len(self._examples):
                return
            rows = self._rows_of(self._examples[index])
            at = 0 if by > 0 else len(rows) - 1
        t = _cell_at(rows[at], column)
        self._select(index, rows[at][-1].t if t is None else t)

    def _select(self, index: int, position: int) -> None:
        if self._examples:
            self.index = index
            self.selected = position
            self._clamp()
            self.redraw()
            self.post_message(self.Selected())

    def _clamp(self) -> None:
        if self._examples:
            self.index = max(0, min(self.index, len(self._examples) - 1))
            self.selected = max(0, min(self.selected, len(self._examples[self.index].x) - 1))

    def _visible_lines(self) -> list[Line]:
        """Return the lines that fit; the selected cell's are among them."""
        self._first = min(self._first, self.index)
        blocks: dict[int, list[Line]] = {}

        def block(index: int) -> list[Line]:
            if index not in blocks:
                blocks[index] = list(self._draw(index))
            return blocks[index]

        height = self.size.height
        n_before = sum(len(block(index)) for index in range(self._first, self.index))
        while self._first < self.index and n_before + len(block(self.index)) > height:
            n_before -= len(block(self._first))
            self._first += 1
        lines: list[Line] = []
        index = self._first
        while len(lines) < height and index < len(self._examples):
            lines += block(index)
            index += 1
        if self._first == self.index:  # It alone may be higher than the screen.
            last = next(i for i, line in enumerate(lines) if line.cells and line.cells[-1].t >= self.selected) + 1
            lines = lines[max(0, last + 1 - height) :]
        return lines[:height]

    def _rows_of(self, example: Example) -> list[list[Cell]]:
        return cell_rows(example, self.size.width - NAME_WIDTH)

    def _draw(self, index: int) -> Iterator[Line]:
        example = self._examples[index]
        selected = index == self.index
        if example.name:
            yield Line(index, title_line(example, self.size.width, selected=selected))
        styles = DARK_LOSS_STYLES if self.app.current_theme.dark else LIGHT_LOSS_STYLES
        for cells in self._rows_of(example):
            for text in draw_row(example, cells, self.selected if selected else None, styles):
                yield Line(index, text, cells)


def cell_rows(example: Example, width: int) -> list[list[Cell]]:
    """Return the cells of an example in rows that are at most `width` columns wide."""
    text_of_x = _cached_text(example.tokenizer)
    text_of_y = _cached_text(example.target_tokenizer)
    rows: list[list[Cell]] = []
    room = 0
    for t, (x, y) in enumerate(zip(example.x.tolist(), example.y.tolist(), strict=True)):
        x_text = text_of_x(x)
        y_text = text_of_y(y)
        cell = Cell(t, x_text, y_text, max(cell_len(x_text), cell_len(y_text)) + 1)
        if not rows or cell.width > room:
            rows.append([])
            room = width
        rows[-1].append(cell)
        room -= cell.width
    return rows


def _cached_text(tokenizer: Tokenizer) -> Callable[[int], str]:
    """Return a function that shows a token, and keeps what it has shown."""

    @functools.cache
    def text_of(token: int) -> str:
        return "–" if token == IGNORED else shortened(token_text(tokenizer, token))

    return text_of


def draw_row(
    example: Example, cells: Sequence[Cell], selected: int | None, styles: Sequence[LossStyle]
) -> tuple[Text, Text]:
    """Return the lines x and y of a row of cells. selected: the position of the selected cell, if it is there."""
    x_line = Text.assemble((f"{'x':<{NAME_WIDTH}}", "dim"), no_wrap=True)
    y_line = Text.assemble((f"{'y':<{NAME_WIDTH}}", "dim"), no_wrap=True)
    for cell in cells:
        x_line.append(set_cell_size(cell.x, cell.width), "reverse" if cell.t == selected else "")
        style, mark_style = _styles(example, cell, selected, styles)
        y_line.append(set_cell_size(cell.y, cell.width - 1), style).append(_mark(example, cell), mark_style)
    return x_line, y_line


def title_line(example: Example, width: int, *, selected: bool) -> Text:
    """Return the name of an example, and its mean loss at the right end."""
    loss = example.mean_loss
    value = "loss –" if math.isnan(loss) else f"loss {loss:.3f}"
    name = example.name if len(example.name) + len(value) + 1 <= width else example.name[: width - len(value) - 2] + "…"
    style = "bold" if selected else "dim"
    return Text.assemble((name.ljust(width - len(value)), style), (value, style), no_wrap=True)


def _mark(example: Example, cell: Cell) -> str:
    if example.violates_next_token(cell.t):
        return "≠"
    loss = example.loss(cell.t)
    return " " if math.isnan(loss) else LOSS_MARKS[loss_level(loss)]


def _styles(example: Example, cell: Cell, selected: int | None, styles: Sequence[LossStyle]) -> tuple[str, str]:
    """Return the styles of a target's text and of the mark after it."""
    if cell.t == selected:
        return "reverse", "reverse"
    loss = example.loss(cell.t)
    if math.isnan(loss):
        return "dim", "bold red" if example.violates_next_token(cell.t) else "dim"
    style = styles[loss_level(loss)]
    return style.text, style.text if example.violates_next_token(cell.t) else style.mark


def _cell_at(cells: Sequence[Cell], column: int) -> int | None:
    """Return the position of the cell at a column; the last one right of it, None without cells."""
    end = 0
    for cell in cells:
        end += cell.width
        if column < end:
            return cell.t
    return cells[-1].t if cells else None


def _column_of(cells: Sequence[Cell], t: int) -> int:
    return sum(cell.width for cell in cells if cell.t < t)


def loss_level(loss: float) -> int:
    """Return the level of a loss, 0 (known) to 3 (surprising)."""
    return 0 if math.isnan(loss) else sum(loss > bound for bound in LOSS_BOUNDS)


def shortened(text: str) -> str:
    """Return the text, cut to the widest cell."""
    return text if cell_len(text) <= MAX_TOKEN_WIDTH else set_cell_size(text, MAX_TOKEN_WIDTH - 1) + "…"


def by_loss(examples: Sequence[Example]) -> list[Example]:
    """Return the examples, those of the largest loss first; those that are not measured last, in their order."""
    losses = {example.row: example.mean_loss for example in examples}
    return sorted(
        examples, key=lambda each: -math.inf if math.isnan(losses[each.row]) else losses[each.row], reverse=True
    )
