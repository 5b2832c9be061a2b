"""Tables of the residual stream of one example, and of each layer while the run trained."""

from rich.table import Table

from tui_lab.cli.output import console, write, write_title
from tui_lab.core.examples.inside import LayerValue
from tui_lab.core.inside.results import StreamNorms
from tui_lab.runs.inside_text import MEASUREMENTS, layer_titles
from tui_lab.runs.numbers import short_number


def print_norms(norms: StreamNorms) -> None:
    """Print the norms after each layer, and of what its parts add."""
    write_title("norms of the residual stream, and of what attention and feed-forward add: means over the positions")
    table = Table(box=None, pad_edge=False)
    for column in ("after", "stream", "least", "largest", "+ attention", "+ feed-forward"):
        table.add_column(column, justify="left" if column == "after" else "right")
    for place, name in enumerate(layer_titles(norms.places)):
        stream = norms.stream[place]
        added = (norms.attention[place - 1], norms.feed_forward[place - 1]) if place else ()
        figures = (stream.mean(), stream.min(), stream.max(), *(each.mean() for each in added))
        table.add_row(name, *(short_number(float(figure)) for figure in figures))
    console().print(table)


def print_layers(layers: dict[str, dict[str, LayerValue]]) -> None:
    """Print the last, least and largest value of each measurement, by layer."""
    if not layers:
        write_title("layers while the run trained")
        write("nothing was measured by layer up to this step")
    for measurement, values in layers.items():
        write_title(f"{MEASUREMENTS.get(measurement, measurement)} of each layer, while the run trained")
        table = Table(box=None, pad_edge=False)
        for column in ("layer", "value", "at step", "least", "largest"):
            table.add_column(column, justify="left" if column == "layer" else "right")
        for title, at in zip(layer_titles(list(values)), values.values(), strict=True):
            figures = (short_number(at.value), f"{at.step:,}", short_number(at.least), short_number(at.largest))
            table.add_row(title, *figures)
        console().print(table)
