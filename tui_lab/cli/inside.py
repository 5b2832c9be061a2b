"""`tui-lab inside`: print what happens inside a run's model on one example."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, write, write_json
from tui_lab.cli.progress import preparing
from tui_lab.core.examples.inside import InsideReport, InsideRequest, LayerValue, inside_run
from tui_lab.core.examples.measure import no_progress
from tui_lab.core.inside.results import Ablation, LogitLens, PartLosses, StreamNorms
from tui_lab.core.runs import folder as runs
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import Tokenizer, show
from tui_lab.runs.examples_text import PART_NAMES
from tui_lab.runs.examples_text import name as example_name
from tui_lab.runs.inside_text import MEASUREMENTS, change_text, layer_titles, own_layer_name, part_titles
from tui_lab.runs.numbers import short_number

MOST_TEXT = 200
"""Characters of the example that are printed."""
MOST_TOKEN = 12
"""Columns of a token in the table of the lens."""
GAP = 2
"""Columns that rich puts between two columns of a table."""
Floats = npt.NDArray[np.floating[Any]]


def show_inside(name: str, request: InsideRequest, top: int, *, as_json: bool) -> None:
    """Print what was measured. top: how many positions and ablations, 0 for all.

    Raises ConfigError, DataError or RunError.
    """
    run = runs.find(name)
    with preparing() as progress:
        report = inside_run(run, request, progress or no_progress)
    if as_json:
        write_json(report.to_json())
        return
    write(f"{report.run}, step {report.step:,}: {_example_text(report)}")
    text = report.text.replace("\n", "↵")
    write(text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…")
    views = {
        "logit lens": report.lens,
        "ablation": report.ablation,
        "norms of the residual stream": report.norms,
    }
    for title, view in views.items():
        if isinstance(view, str):
            write(f"\n{title}\n{view}")
    if isinstance(report.lens, LogitLens):
        _print_lens(report, report.lens, run.tokenizer(), top)
    if isinstance(report.ablation, Ablation):
        _print_ablation(report.ablation, top)
    if isinstance(report.norms, StreamNorms):
        _print_norms(report.norms)
    if report.layers is not None:
        _print_layers(report.layers)


def _example_text(report: InsideReport) -> str:
    if report.example is None or report.part is None:
        return "your text"
    return f"{example_name(report.example, report.offset)} of the {PART_NAMES[report.part]}"


def _title(text: str) -> None:
    write("")
    console().print(Text(text, "bold"), soft_wrap=True)


# Lens


def _print_lens(report: InsideReport, lens: LogitLens, tokenizer: Tokenizer, top: int) -> None:
    out = console()
    _title("logit lens: the likeliest token after each layer, and the probability of the target")
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


# Ablation


def _print_ablation(ablation: Ablation, top: int) -> None:
    how = "zeros" if ablation.how == "zero" else "its mean over all positions"
    _title(f"ablation: the change of the loss when the output of a part is replaced by {how}")
    base = f"loss of this example {ablation.example.base:.4f}"
    if ablation.n_others:
        base += f", of {ablation.n_others:,} other{'s' if ablation.n_others > 1 else ''} {ablation.others.base:.4f}"
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


# Norms and layers


def _print_norms(norms: StreamNorms) -> None:
    _title("norms of the residual stream, and of what attention and feed-forward add: means over the positions")
    table = Table(box=None, pad_edge=False)
    for column in ("after", "stream", "least", "largest", "+ attention", "+ feed-forward"):
        table.add_column(column, justify="left" if column == "after" else "right")
    for place, name in enumerate(layer_titles(norms.places)):
        stream = norms.stream[place]
        added = (norms.attention[place - 1], norms.feed_forward[place - 1]) if place else ()
        figures = (stream.mean(), stream.min(), stream.max(), *(each.mean() for each in added))
        table.add_row(name, *(short_number(float(figure)) for figure in figures))
    console().print(table)


def _print_layers(layers: dict[str, dict[str, LayerValue]]) -> None:
    if not layers:
        _title("layers while the run trained")
        write("nothing was measured by layer up to this step")
    for measurement, values in layers.items():
        _title(f"{MEASUREMENTS.get(measurement, measurement)} of each layer, while the run trained")
        table = Table(box=None, pad_edge=False)
        for column in ("layer", "value", "at step", "least", "largest"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for title, at in zip(layer_titles(list(values)), values.values(), strict=True):
            figures = (short_number(at.value), f"{at.step:,}", short_number(at.least), short_number(at.largest))
            table.add_row(title, *figures)
        console().print(table)
