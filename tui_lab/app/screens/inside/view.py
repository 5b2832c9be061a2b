"""What the views of the screen that looks inside a model have in common: a table with a selected cell, and texts."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.text import Text

from tui_lab.app.screens.attention_text import Example
from tui_lab.app.widgets.cell_grid import CellGrid, CellWindow
from tui_lab.app.widgets.heatmap import UNSEEN, Ramp

Lines = list[list[Segment]]


class InsideView:
    """One view. `take` gives it a result, `draw` its lines; the texts are those above and below them."""

    title = ""
    measures: tuple[str, ...] = ()
    """What the color may stand for; a key goes to the next."""

    def __init__(self) -> None:
        self.cursor = (0, 0)
        self.measure = 0
        self.example: Example | None = None
        self.grid: CellGrid | None = None
        self.window: CellWindow | None = None

    def take(self, result: Any, example: Example) -> None:
        """Take a new measurement of an example."""
        self.example = example

    @property
    def has_result(self) -> bool:
        return False

    @property
    def layer_names(self) -> Sequence[str]:
        """The names of the layers in the model."""
        return ()

    def summary(self) -> Text:
        """Return the main finding, one line."""
        return Text()

    def selection(self) -> Text:
        """Return the selected cell in full, one or two lines."""
        return Text()

    def make_grid(self, ramp: Ramp, width: int) -> CellGrid:
        """Return the table. width: of the screen."""
        raise NotImplementedError

    def draw(self, ramp: Ramp, width: int, height: int) -> Lines:
        """Return the lines of the view."""
        self.grid = self.make_grid(ramp, width)
        row, column = self.cursor
        self.cursor = (
            max(0, min(row, len(self.grid.names) - 1)),
            max(0, min(column, self.grid.n_columns - 1)),
        )
        self.window = self.grid.window(self.cursor, width, height)
        return self.grid.draw(self.cursor, self.window, ramp)

    def part_shown(self) -> str:
        """Return which part of the table is shown; empty if all of it."""
        if self.window is None:
            return ""
        axes = (("rows", self.window.rows), ("columns", self.window.columns))
        return ", ".join(f"{name} {part.label}" for name, part in axes if not part.whole)

    def move(self, down: int, right: int) -> None:
        """Select a neighboring cell, within the edges."""
        if self.grid is not None:
            row, column = self.cursor
            self.cursor = (
                max(0, min(row + down, len(self.grid.names) - 1)),
                max(0, min(column + right, self.grid.n_columns - 1)),
            )

    def move_to_end(self, *, last: bool) -> None:
        """Select the first or last cell of the row."""
        if self.grid is not None:
            self.cursor = (self.cursor[0], self.grid.n_columns - 1 if last else 0)

    def click(self, x: int, y: int) -> None:
        """Select the cell at a place on the screen."""
        if self.grid is not None and self.window is not None:
            self.cursor = self.grid.at(x, y, self.window)

    def next_measure(self) -> None:
        """Let the color stand for something else."""
        if self.measures:
            self.measure = (self.measure + 1) % len(self.measures)

    @property
    def measure_text(self) -> str:
        return self.measures[self.measure] if self.measures else ""


def level(value: float, ramp: Ramp) -> int:
    """Return the level of a value from 0 to 1; UNSEEN if it is NaN."""
    if math.isnan(value):
        return UNSEEN
    return int(ramp.levels(np.array([value], dtype=np.float32), np.array([True]))[0])


def largest(values: npt.NDArray[np.floating[Any]]) -> float:
    """Return the largest finite absolute value; 0 if there is none."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def one_line(*parts: Text | str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
