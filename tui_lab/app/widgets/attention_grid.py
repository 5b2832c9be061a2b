"""Draw square maps: all of them small, or a part of one with numbers and names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style

from tui_lab.app.widgets.heatmap import Floats, Levels, Ramp, fitting, picture, pooled, style

LEAST_COLUMNS = 9
LEAST_LINES = 4
"""Least size of a small map; if there is no room, some are left out."""
CELL = 4
NAME = 13
"""Columns of a number, and of the name before its line."""
HEADER = 2


@dataclass(frozen=True)
class Part:
    """`shown` of `n` items, from `first`."""

    first: int
    shown: int
    n: int

    @property
    def label(self) -> str:
        return f"{self.first}–{self.first + self.shown - 1} of {self.n}"

    @property
    def whole(self) -> bool:
        return self.shown == self.n


def part_around(chosen: int, n: int, most: int) -> Part:
    """Return at most `most` of n items, with the chosen one in the middle if possible."""
    shown = max(1, min(n, most))
    return Part(max(0, min(chosen - shown // 2, n - shown)), shown, n)


def levels_of(weights: Floats, ramp: Ramp, points: int) -> Levels:
    """Return the levels of [n, n], at most points × points of them. Zeros above the diagonal are left blank."""
    small = pooled(weights, points, points)
    visible = np.tri(len(small), dtype=bool) | (small > 0)
    return ramp.levels(small, visible)


@dataclass(frozen=True)
class Grid:
    """Where the small maps of [rows, columns] are on the screen."""

    rows: Part
    columns: Part
    width: int
    height: int

    def at(self, x: int, y: int) -> tuple[int, int]:
        """Return the row and column of the map at a place on the screen."""
        row, column = min(y // self.height, self.rows.shown - 1), min(x // self.width, self.columns.shown - 1)
        return self.rows.first + row, self.columns.first + column


def grid_of(rows: int, columns: int, chosen: tuple[int, int], width: int, height: int) -> Grid:
    down = part_around(chosen[0], rows, height // (LEAST_LINES + 1))
    across = part_around(chosen[1], columns, width // (LEAST_COLUMNS + 1))
    return Grid(down, across, max(2, width // across.shown), max(2, height // down.shown))


def small_maps(
    maps: Floats, notes: dict[tuple[int, int], str], chosen: tuple[int, int], grid: Grid, ramp: Ramp
) -> list[list[Segment]]:
    """Draw maps [L, H, n, n], each under a title: its numbers, and its note if there is room."""
    points, scale = fitting(maps.shape[-1], ramp, grid.width - 1, grid.height - 1)
    lines: list[list[Segment]] = []
    for row in range(grid.rows.first, grid.rows.first + grid.rows.shown):
        block: list[list[Segment]] = [[] for _ in range(grid.height)]
        for column in range(grid.columns.first, grid.columns.first + grid.columns.shown):
            here = (row, column)
            title = f"L{row}.H{column} {notes.get(here, '')}"[: grid.width - 1]
            drawn = picture(levels_of(maps[row, column], ramp, points), ramp, scale)
            block[0] += [
                Segment(title, _mark(here == chosen)),
                Segment(" " * (grid.width - len(title)), Style()),
            ]
            for line, segments in zip(block[1:], [*drawn, *([[]] * grid.height)], strict=False):
                used = sum(len(segment.text) for segment in segments)
                line += [*segments, Segment(" " * (grid.width - used), Style())]
        lines += block
    return lines


@dataclass(frozen=True)
class Window:
    """Which part of one map is shown large; `at` returns the cell at a place on the screen."""

    rows: Part
    columns: Part

    def at(self, x: int, y: int) -> tuple[int, int]:
        row = max(0, min(y - HEADER, self.rows.shown - 1))
        return self.rows.first + row, self.columns.first + max(0, min((x - NAME) // CELL, self.columns.shown - 1))


def window_of(n: int, cursor: tuple[int, int], width: int, height: int) -> Window:
    return Window(part_around(cursor[0], n, height - HEADER), part_around(cursor[1], n, (width - NAME) // CELL))


def large_map(
    weights: Floats, names: Sequence[str], cursor: tuple[int, int], window: Window, ramp: Ramp, every: int = 1
) -> list[list[Segment]]:
    """Draw the window's part of [n, n]: numbers on their color or next to their sign, and names of rows and columns.

    every: how many positions a row stands for.
    """
    rows, columns = _range(window.rows), _range(window.columns)
    levels = levels_of(weights, ramp, len(weights))
    lines = [
        _header([str(column * every) for column in columns], columns, cursor[1]),
        _header([names[column] for column in columns], columns, cursor[1]),
    ]
    for row in rows:
        mark = _mark(row == cursor[0])
        line = [Segment(f"{row * every:>4} {set_cell_size(names[row], NAME - 6)}", mark), Segment(" ", Style())]
        for column in columns:
            value = float(weights[row, column])
            line.append(_cell(int(levels[row, column]), value, ramp, chosen=(row, column) == cursor))
        lines.append(line)
    return lines


def _range(part: Part) -> range:
    return range(part.first, part.first + part.shown)


def _mark(chosen: bool) -> Style:
    return style(bold=chosen, reverse=chosen)


def _header(texts: Sequence[str], columns: range, chosen: int) -> list[Segment]:
    line = [Segment(" " * NAME, Style())]
    for text, column in zip(texts, columns, strict=True):
        line += [Segment(set_cell_size(text, CELL - 1), _mark(column == chosen)), Segment(" ", Style())]
    return line


def _cell(level: int, value: float, ramp: Ramp, *, chosen: bool) -> Segment:
    text = "   " if value < 0.005 else "1.0" if value >= 0.995 else f"{value:.2f}"[1:]
    if not ramp.colors:
        return Segment(f"{text}{ramp.sign(level)}", _mark(chosen))
    if chosen:
        return Segment(f"{text}◂", _mark(chosen))
    return Segment(f"{text} ", style(ramp.text(level), ramp.color(level)))
