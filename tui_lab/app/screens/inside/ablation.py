"""The view of ablations: layers × heads, attention and feed-forward, colored by the change of the loss, and a list."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.segment import Segment
from rich.text import Text

from tui_lab.app.screens.attention_text import Example
from tui_lab.app.screens.inside.view import InsideView, Lines, largest, level
from tui_lab.app.widgets.cell_grid import Cell, CellGrid
from tui_lab.app.widgets.heatmap import Ramp, style
from tui_lab.runs.inside_text import change_text, layer_titles, part_titles
from tui_lab.util.plural import counted

if TYPE_CHECKING:
    from tui_lab.core.inside.results import Ablation, PartLosses

COLUMN = 8
LIST_WIDTH = 44
GAP = 4


class AblationView(InsideView):
    """Colored by the change of the loss of the example, or of the mean loss of the other rows."""

    title = "Ablation"
    measures = ("change of the loss of this example", "change of the mean loss of the other rows")

    def __init__(self) -> None:
        super().__init__()
        self.ablation: Ablation | None = None

    def take(self, result: Any, example: Example) -> None:
        is_first = self.ablation is None
        super().take(result, example)
        self.ablation = result
        if is_first and (ranked := self.ranked()):
            self.cursor = ranked[0][:2]

    @property
    def has_result(self) -> bool:
        return self.ablation is not None

    @property
    def _losses(self) -> "PartLosses":
        assert self.ablation is not None
        return self.ablation.others if self.measure == 1 else self.ablation.example

    def changes(self) -> "np.ndarray[Any, np.dtype[np.floating[Any]]]":
        """Return the change of the loss without each part: heads, attention, feed-forward, [L, H + 2]."""
        losses = self._losses
        columns = (losses.heads, losses.attention[:, None], losses.feed_forward[:, None])
        return np.concatenate(columns, axis=1) - losses.base

    def ranked(self) -> list[tuple[int, int, float]]:
        """Return row, column and change of every part that was measured, the largest change first."""
        changes = self.changes()
        parts = [(i, j, float(changes[i, j])) for i, j in np.ndindex(*changes.shape) if np.isfinite(changes[i, j])]
        return sorted(parts, key=lambda part: -abs(part[2]))

    def part_name(self, row: int, column: int) -> str:
        assert self.ablation is not None
        part = part_titles(self._losses.heads.shape[1])[column]
        return f"{layer_titles(self.ablation.layers)[row]}, {part}"

    @property
    def layer_names(self) -> Sequence[str]:
        return () if self.ablation is None else self.ablation.layers

    def summary(self) -> Text:
        assert self.ablation is not None
        ranked = self.ranked()
        base = self._losses.base
        if not ranked:
            return Text("no loss: there are no targets" if np.isnan(base) else "no part could be removed")
        row, column, change = ranked[0]
        return Text(f"loss {base:.3f}; {change:+.3f} without {self.part_name(row, column)}: the largest change")

    def make_grid(self, ramp: Ramp, width: int) -> CellGrid:
        assert self.ablation is not None
        changes = self.changes()
        most = largest(changes) or 1.0
        H = changes.shape[1] - 2

        def cell(row: int, column: int) -> Cell:
            change = float(changes[row, column])
            return Cell(change_text(change), level(abs(change) / most, ramp))

        header = [*(f"head {head}" for head in range(H)), "attn", "ff"]
        return CellGrid(layer_titles(self.ablation.layers), (("without", header),), cell, COLUMN)

    def draw(self, ramp: Ramp, width: int, height: int) -> Lines:
        """Draw the table, and a list of the largest changes on its right or below it."""
        n_columns, n_lines = self.make_grid(ramp, width).size
        if n_columns + GAP + LIST_WIDTH <= width:
            lines = super().draw(ramp, n_columns, height)
            lines += [[] for _ in range(height - len(lines))]
            return (
                [
                    [*line, Segment(" " * (n_columns + GAP - sum(s.cell_length for s in line))), *entry]
                    for line, entry in zip(lines, self._list(height), strict=False)
                ]
                if n_lines
                else lines
            )
        table_height = min(height, max(n_lines, height // 2) if n_lines > height - 4 else n_lines)
        lines = super().draw(ramp, width, table_height)
        return [*lines, [], *self._list(height - len(lines) - 1)][:height]

    def _list(self, height: int) -> Lines:
        """Return `height` lines at most: the largest changes, with those of the other rows or of the example."""
        assert self.ablation is not None
        if height < 2:
            return []
        other = self.ablation.example if self.measure == 1 else self.ablation.others
        columns = (other.heads, other.attention[:, None], other.feed_forward[:, None])
        others = np.concatenate(columns, axis=1) - other.base
        heads = ("this example", "others") if self.measure == 0 else ("others", "this example")
        lines: Lines = [[Segment(f"{'largest changes':<24}{heads[0]:>12} {heads[1]:>7}", style(bold=True))]]
        for row, column, change in self.ranked()[: height - 1]:
            text = (
                f"{self.part_name(row, column)[:23]:<24}{change_text(change):>12} {change_text(others[row, column]):>7}"
            )
            chosen = (row, column) == self.cursor
            lines.append([Segment(text, style(bold=chosen, reverse=chosen))])
        return lines + [[] for _ in range(height - len(lines))]

    def selection(self) -> Text:
        ablation = self.ablation
        assert ablation is not None
        row, column = self.cursor
        how = "zeros" if ablation.how == "zero" else "its mean over all positions"
        return Text.assemble(
            (f"without {self.part_name(row, column)}: ", "bold"),
            f"loss of this example {_losses_text(ablation.example, row, column)}\n",
            f"{counted(ablation.n_others, 'other row')}: ",
            f"{_losses_text(ablation.others, row, column)}; replaced by {how}",
        )


def _losses_text(losses: "PartLosses", row: int, column: int) -> str:
    """Return the loss with and without a part."""
    columns = (losses.heads, losses.attention[:, None], losses.feed_forward[:, None])
    loss = float(np.concatenate(columns, axis=1)[row, column])
    return f"{losses.base:.3f} → {loss:.3f} ({loss - losses.base:+.3f})" if np.isfinite(loss) else "not available"
