"""The view of the logit lens: layers × positions, the likeliest token of each as text, colored by the target."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from tui_lab.app.screens.attention_text import Example
from tui_lab.app.screens.inside.view import InsideView, level
from tui_lab.app.token_text import token_name, token_text
from tui_lab.app.widgets.cell_grid import Cell, CellGrid
from tui_lab.app.widgets.heatmap import Ramp
from tui_lab.data.dataset import IGNORED
from tui_lab.runs.inside_text import layer_titles

if TYPE_CHECKING:
    from tui_lab.core.inside.results import LogitLens

LEAST_TOKEN = 3
MOST_TOKEN = 9
"""Columns of a token in the table; the selected one is shown in full."""
NUMBER = 4
"""Columns of a probability next to the token, where there is room for all."""


class LensView(InsideView):
    """Colored by the probability of the target, by its rank, or by the probability of the token that is shown."""

    title = "Lens"
    measures = ("probability of the target", "1 / rank of the target", "probability of the token")

    def __init__(self) -> None:
        super().__init__()
        self.lens: LogitLens | None = None

    def take(self, result: Any, example: Example) -> None:
        if self.lens is None or self.lens.top.shape != result.top.shape:
            places, T = result.ranks.shape
            self.cursor = (places - 1, T - 1)
        super().take(result, example)
        self.lens = result

    @property
    def has_result(self) -> bool:
        return self.lens is not None

    @property
    def layer_names(self) -> Sequence[str]:
        return () if self.lens is None else self.lens.places

    def summary(self) -> Text:
        """Return at how many positions the likeliest token is the target, at the end and after each layer before."""
        lens = self.lens
        assert lens is not None
        n_targets = int((lens.ranks[-1] > 0).sum())
        if not n_targets:
            return Text("the example has no targets: colors need one")
        is_first = lens.ranks == 1
        counts = [f"{name} {int(row.sum())}" for name, row in zip(layer_titles(lens.places), is_first, strict=True)]
        before = f"; before: {', '.join(counts[:-1])}"
        return Text(f"target likeliest at {int(is_first[-1].sum())} of {n_targets}{before}")

    def make_grid(self, ramp: Ramp, width: int) -> CellGrid:
        lens = self.lens
        example = self.example
        assert lens is not None and example is not None
        T = lens.ranks.shape[1]
        names = example.names()
        targets = ["" if y == IGNORED else token_text(example.target_tokenizer, y) for y in example.targets]
        likeliest = [
            [token_text(example.target_tokenizer, token) for token in row] for row in lens.top[:, :, 0].tolist()
        ]
        widest = max(map(cell_len, (*names, *targets, *(text for row in likeliest for text in row))), default=1)
        token_width = max(LEAST_TOKEN, min(MOST_TOKEN, widest))
        place_names = layer_titles(lens.places)
        has_numbers = 2 + max(map(len, place_names)) + T * (token_width + NUMBER + 1) <= width
        values = self._values()

        def cell(row: int, column: int) -> Cell:
            text = likeliest[row][column]
            if has_numbers:
                text = f"{text[:token_width]:<{token_width}} {_short(float(values[row, column]))}"
            return Cell(text, level(float(values[row, column]), ramp))

        headers = (("position", [str(t) for t in range(T)]), ("token", names), ("target", targets))
        return CellGrid(place_names, headers, cell, token_width + 1 + NUMBER * has_numbers)

    def _values(self) -> "np.ndarray[Any, np.dtype[np.floating[Any]]]":
        """Return what the color stands for, [P, T]."""
        lens = self.lens
        assert lens is not None
        if self.measure == 0:
            return lens.target_probabilities
        if self.measure == 1:
            return np.where(lens.ranks > 0, 1 / np.maximum(lens.ranks, 1), np.nan)
        return lens.probabilities[:, :, 0]

    def selection(self) -> Text:
        lens = self.lens
        example = self.example
        assert lens is not None and example is not None
        place, t = self.cursor
        name = layer_titles(lens.places)[place]
        text = Text.assemble((f"{name}, t = {t}: ", "bold"), f"after “{example.names()[t]}” ")
        rank = int(lens.ranks[place, t])
        if rank:
            text.append(
                f"{example.target(t)} has probability {lens.target_probabilities[place, t]:.3g}, rank {rank:,}, "
            )
            text.append(f"loss {lens.losses[place, t]:.3f}")
        else:
            text.append("no target")
        top = zip(lens.top[place, t].tolist(), lens.probabilities[place, t].tolist(), strict=True)
        text.append("\nlikeliest: " + ", ".join(f"{token_name(example.target_tokenizer, k)} {p:.3g}" for k, p in top))
        return text


def _short(value: float) -> str:
    """Return a number from 0 to 1 in three characters."""
    if value != value:  # NaN.
        return "   "
    return "1.0" if value >= 0.995 else f"{value:.2f}"[1:]
