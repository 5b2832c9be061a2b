"""Draw a table of short texts on colors, in part if it does not fit, with one cell selected."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style

from tui_lab.app.widgets.attention_grid import Part, part_around
from tui_lab.app.widgets.heatmap import UNSEEN, Ramp, style


@dataclass(frozen=True)
class Cell:
    """level: of the color, see `Ramp`."""

    text: str
    level: int = UNSEEN


@dataclass(frozen=True)
class CellWindow:
    """Which part of a table is shown. in_band: columns next to each other; further ones follow below, in bands."""

    rows: Part
    columns: Part
    in_band: int

    @property
    def bands(self) -> Iterator[range]:
        """The columns of each band."""
        end = self.columns.first + self.columns.shown
        for first in range(self.columns.first, end, self.in_band):
            yield range(first, min(first + self.in_band, end))


@dataclass(frozen=True)
class CellGrid:
    """A table. names: of the rows. headers: lines above the cells, each with its name and a text for every column.

    cell: the cell of a row and a column. width: of a column, with the gap after it.
    """

    names: Sequence[str]
    headers: Sequence[tuple[str, Sequence[str]]]
    cell: Callable[[int, int], Cell]
    width: int

    @property
    def n_columns(self) -> int:
        return len(self.headers[0][1])

    @property
    def name_width(self) -> int:
        return 2 + max(len(name) for name in (*self.names, *(name for name, _ in self.headers)))

    @property
    def size(self) -> tuple[int, int]:
        """The columns and lines that the whole table takes on the screen."""
        return self.name_width + self.width * self.n_columns, len(self.headers) + len(self.names)

    def window(self, cursor: tuple[int, int], width: int, height: int) -> CellWindow:
        """Return the part around the cursor that has room in `width` columns and `height` lines."""
        in_band = max(1, (width - self.name_width) // self.width)
        n_bands = max(1, (height + 1) // (self.size[1] + 1))
        return CellWindow(
            part_around(cursor[0], len(self.names), height - len(self.headers)),
            part_around(cursor[1], self.n_columns, in_band * n_bands),
            in_band,
        )

    def draw(self, cursor: tuple[int, int], window: CellWindow, ramp: Ramp) -> list[list[Segment]]:
        """Return the lines of the window."""
        lines: list[list[Segment]] = []
        for columns in window.bands:
            lines += [[]] if lines else []
            lines += self._band(columns, cursor, window.rows, ramp)
        return lines

    def _band(self, columns: range, cursor: tuple[int, int], rows: Part, ramp: Ramp) -> list[list[Segment]]:
        lines = []
        for name, texts in self.headers:
            line = [Segment(set_cell_size(name, self.name_width), style())]
            for column in columns:
                line += self._plain(texts[column], chosen=column == cursor[1])
            lines.append(line)
        for row in range(rows.first, rows.first + rows.shown):
            line = self._plain(self.names[row], chosen=row == cursor[0], width=self.name_width)
            line += [self._cell(row, column, ramp, chosen=(row, column) == cursor) for column in columns]
            lines.append(line)
        return lines

    def at(self, x: int, y: int, window: CellWindow) -> tuple[int, int]:
        """Return the row and the column at a place on the screen."""
        bands = list(window.bands)
        band, line = divmod(y, len(self.headers) + window.rows.shown + 1)
        columns = bands[min(band, len(bands) - 1)]
        row = max(0, min(line - len(self.headers), window.rows.shown - 1))
        column = max(0, min((x - self.name_width) // self.width, len(columns) - 1))
        return window.rows.first + row, columns[column]

    def _plain(self, text: str, *, chosen: bool, width: int = 0) -> list[Segment]:
        width = width or self.width
        mark = style(bold=chosen, reverse=chosen)
        return [Segment(set_cell_size(text, width - 1), mark), Segment(" ", Style())]

    def _cell(self, row: int, column: int, ramp: Ramp, *, chosen: bool) -> Segment:
        cell = self.cell(row, column)
        text = set_cell_size(cell.text, self.width - 1)
        if not ramp.colors:
            return Segment(text + ramp.sign(cell.level), style(bold=chosen, reverse=chosen))
        if chosen:
            return Segment(f"{text}◂", style(bold=True, reverse=True))
        return Segment(f"{text} ", style(ramp.text(cell.level), ramp.color(cell.level)))
