"""The logit lens as a table: what each layer says at each position."""

import numpy as np
from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, write, write_title
from tui_lab.core.examples.inside import InsideReport
from tui_lab.core.inside.results import LogitLens
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import Tokenizer, show
from tui_lab.runs.inside_text import layer_titles, own_layer_name

MOST_TOKEN = 12
"""Columns of a token in the table of the lens."""
GAP = 2
"""Columns that rich puts between two columns of a table."""


def print_lens(report: InsideReport, lens: LogitLens, tokenizer: Tokenizer, top: int) -> None:
    """Print the likeliest token of each layer. top: how many positions, 0 for all."""
    out = console()
    write_title("logit lens: the likeliest token after each layer, and the probability of the target")
    titles = layer_titles(lens.places)
    n_targets = int((lens.ranks[-1] > 0).sum())
    counts = [f"{title} {int((ranks == 1).sum())}" for title, ranks in zip(titles, lens.ranks, strict=True)]
    write(f"read out by: {lens.read_out}")
    if own_name := own_layer_name(lens.places):
        write(own_name)
    write(f"target is the likeliest token at, of {n_targets}: {', '.join(counts)}")
    positions = _positions(lens, top)
    columns = _fixed_columns(report, positions, tokenizer)
    places = [_lens_column(lens, place, titles[place], positions, tokenizer) for place in range(len(titles))]
    shown = _fitting(places, out.width - sum(map(_width, columns)))
    table = Table(box=None, pad_edge=False)
    for column in (*columns, *(places[place] for place in shown)):
        table.add_column(column[0], no_wrap=True)
    for row in zip(*(column[1:] for column in (*columns, *(places[place] for place in shown))), strict=True):
        table.add_row(*row)
    out.print(table)
    T = len(report.x)
    if len(positions) < T:
        write(f"the {len(positions)} positions of the highest loss, of {T:,}; --top 0 prints all")
    if len(shown) < len(titles):
        write(f"{len(shown)} of {len(titles)} places fit this width; --json has all")


def _fixed_columns(report: InsideReport, positions: list[int], tokenizer: Tokenizer) -> list[list[Text]]:
    """Return what does not depend on a layer, each column with its title: position, token, target."""
    targets = ["" if report.y[t] == IGNORED else show(tokenizer, report.y[t]) for t in positions]
    columns = (
        ("t", map(str, positions)),
        ("token", (show(tokenizer, report.x[t]) for t in positions)),
        ("target", targets),
    )
    return [[Text(title), *(Text(_cut(text)) for text in texts)] for title, texts in columns]


def _lens_column(lens: LogitLens, place: int, title: str, positions: list[int], tokenizer: Tokenizer) -> list[Text]:
    """Return a title, then what a layer says at each position; bold where that is the target."""
    column = [Text(title)]
    for t in positions:
        token = _cut(show(tokenizer, int(lens.top[place, t, 0])))
        p = float(lens.target_probabilities[place, t])
        text = token if np.isnan(p) else f"{token} {p:.2f}"
        column.append(Text(text, "bold" if lens.ranks[place, t] == 1 else ""))
    return column


def _cut(token: str) -> str:
    return token if len(token) <= MOST_TOKEN else f"{token[: MOST_TOKEN - 1]}…"


def _width(column: list[Text]) -> int:
    return GAP + max(text.cell_len for text in column)


def _fitting(places: list[list[Text]], width: int) -> list[int]:
    """Return as many places as fit into the width, evenly spread, the first and the last among them."""
    for n in range(len(places), 2, -1):
        shown: list[int] = np.linspace(0, len(places) - 1, n).round().astype(int).tolist()
        if sum(_width(places[place]) for place in shown) <= width:
            return shown
    return [0, len(places) - 1]


def _positions(lens: LogitLens, top: int) -> list[int]:
    """Return the positions that are printed, in their order: those of the highest loss at the last layer."""
    losses = np.nan_to_num(lens.losses[-1], nan=-1.0)
    order = np.argsort(-losses, kind="stable")
    return sorted(order[: top or None].tolist())
