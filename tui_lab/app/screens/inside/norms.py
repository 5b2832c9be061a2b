"""The view of norms: the residual stream after each layer, and what attention and feed-forward add to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.text import Text

from tui_lab.app.screens.attention_text import Example
from tui_lab.app.screens.inside.view import InsideView, largest, level
from tui_lab.app.widgets.cell_grid import Cell, CellGrid
from tui_lab.app.widgets.heatmap import Ramp
from tui_lab.runs.inside_text import layer_titles, number_in_five

if TYPE_CHECKING:
    from tui_lab.core.inside.results import StreamNorms

COLUMN = 6
MEAN = "mean"


class NormsView(InsideView):
    """Rows: the embedding; then for each layer what attention and what the feed-forward adds, and the stream after it.

    Colored by the norm, relative to the largest one, or to the largest one of its row.
    """

    title = "Norms"
    measures = ("norm, relative to the largest", "norm, relative to the largest of its row")

    def __init__(self) -> None:
        super().__init__()
        self.norms: StreamNorms | None = None

    def take(self, result: Any, example: Example) -> None:
        super().take(result, example)
        self.norms = result

    @property
    def has_result(self) -> bool:
        return self.norms is not None

    def table(self) -> tuple[list[str], "np.ndarray[Any, np.dtype[np.floating[Any]]]"]:
        """Return the names of the rows, and their values: the mean over the positions, then each position."""
        norms = self.norms
        assert norms is not None
        places = layer_titles(norms.places)
        names = [places[0]]
        rows = [norms.stream[0]]
        for i, name in enumerate(places[1:]):
            if np.isfinite(norms.attention[i]).any():
                names += [f"{name} + attn", f"{name} + ff"]
                rows += [norms.attention[i], norms.feed_forward[i]]
            names.append(name)
            rows.append(norms.stream[i + 1])
        values = np.stack(rows)
        return names, np.concatenate([values.mean(axis=1, keepdims=True), values], axis=1)

    @property
    def layer_names(self) -> Sequence[str]:
        return () if self.norms is None else self.norms.places

    def summary(self) -> Text:
        norms = self.norms
        assert norms is not None
        means = [
            f"{name} {number_in_five(float(row.mean()))}"
            for name, row in zip(layer_titles(norms.places), norms.stream, strict=True)
        ]
        return Text(f"mean norm of the residual stream: {', '.join(means)}")

    def make_grid(self, ramp: Ramp, width: int) -> CellGrid:
        assert self.example is not None
        names, values = self.table()
        tokens = self.example.names()
        most = np.full(len(values), largest(values) or 1.0)
        if self.measure == 1:
            most = np.array([largest(row) or 1.0 for row in values])

        def cell(row: int, column: int) -> Cell:
            value = float(values[row, column])
            return Cell(number_in_five(value), level(value / float(most[row]), ramp))

        headers = (("position", [MEAN, *(str(t) for t in range(len(tokens)))]), ("token", ["", *tokens]))
        return CellGrid(names, headers, cell, COLUMN)

    def selection(self) -> Text:
        assert self.example is not None and self.norms is not None
        names, values = self.table()
        row, column = self.cursor
        value = float(values[row, column])
        where = "mean over all positions" if column == 0 else f"t = {column - 1}: “{self.example.names()[column - 1]}”"
        text = Text.assemble((f"{names[row]}, {where}: ", "bold"), f"norm {value:.4g}")
        if "+" in names[row]:
            text.append(" of what it adds to the residual stream, before any LayerNorm")
        else:
            text.append(" of the residual stream")
        if not np.isfinite(self.norms.attention).any():
            text.append(
                "\nwhat attention and feed-forward add is not available: their names or their sums are not known"
            )
        return text
