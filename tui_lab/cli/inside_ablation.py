"""Ablations as a table: the change of the loss without each head and layer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from tui_lab.cli.output import console, write, write_title
from tui_lab.core.inside.results import Ablation, PartLosses
from tui_lab.runs.inside_text import change_text, layer_titles, part_titles
from tui_lab.util.plural import counted

Floats = npt.NDArray[np.floating[Any]]


def print_ablation(ablation: Ablation, top: int) -> None:
    """Print the largest changes of the loss. top: how many, 0 for all."""
    how = "zeros" if ablation.how == "zero" else "its mean over all positions"
    write_title(f"ablation: the change of the loss when the output of a part is replaced by {how}")
    base = f"loss of this example {ablation.example.base:.4f}"
    if ablation.n_others:
        base += f", of {counted(ablation.n_others, 'other')} {ablation.others.base:.4f}"
    write(base)
    table = Table(box=None, pad_edge=False)
    table.add_column("without")
    for column in ("this example", "others") if ablation.n_others else ("this example",):
        table.add_column(column, justify="right")
    example, others = _changes(ablation.example), _changes(ablation.others)
    titles = layer_titles(ablation.layers)
    parts = part_titles(ablation.example.heads.shape[1])
    ranked = sorted(_measured_places(example), key=lambda place: -abs(float(example[place])))
    for i, j in ranked[: top or None]:
        cells = [change_text(float(example[i, j]))]
        cells += [change_text(float(others[i, j]))] if ablation.n_others else []
        table.add_row(f"{titles[i]}, {parts[j]}", *cells)
    console().print(table)
    if top and len(ranked) > top:
        write(f"and {len(ranked) - top:,} smaller changes; --top 0 prints all")


def _changes(losses: PartLosses) -> Floats:
    """Return the change of the loss without each part: heads, attention, feed-forward, [L, H + 2]."""
    columns = (losses.heads, losses.attention[:, None], losses.feed_forward[:, None])
    changes: Floats = np.concatenate(columns, axis=1) - losses.base
    return changes


def _measured_places(changes: Floats) -> Iterator[tuple[int, int]]:
    return ((i, j) for i, j in np.ndindex(*changes.shape) if np.isfinite(changes[i, j]))
