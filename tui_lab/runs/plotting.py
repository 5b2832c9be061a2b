"""Several curves in one picture, saved as SVG or PNG. matplotlib is imported when something is drawn."""

import io
import logging
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.util import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[Sequence[float], Sequence[float]]
"""The xs and ys of one series."""

LABELLED = 16
"""Curves that get a label at their end; more of them have a legend."""
LOG_FROM = 100.0
"""Largest over smallest value from which the y axis is logarithmic: two decades."""
DARKEST, LIGHTEST = 0.0, 0.86
"""The part of viridis that can be told from a white page."""
LABEL_HEIGHT = 0.042
"""Of the axes: how far apart labels at the curves' ends must stand."""
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def save_overlay(
    series: Mapping[str, Curve],
    path: Path,
    *,
    title: str,
    x: str = "step",
    y: str = "loss",
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draw `series` over one another into `path`, whose suffix says how: .svg or .png.

    Where every name ends in a number the colours rise with it, else each series has one of its own. `marks` are
    points, drawn in the colour of the series of the same name, else in black and named. What is not finite leaves a
    gap. Raises ValueError for another suffix, OSError where it cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("svg", "png"):
        raise ValueError(f"{path.name}: a picture of curves ends in .svg or .png")
    import matplotlib
    from matplotlib.figure import Figure

    # It says on stderr that it looks for fonts, the first time on a machine.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Text stays text in an SVG; the salt and the missing date make the same curves the same file.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tui-lab", "font.size": 10}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(10, 5.6), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, series, marks or {})
        axes.set_title(_plain(title), loc="left", parse_math=False)
        axes.set_xlabel(x, parse_math=False)
        axes.set_ylabel(y, parse_math=False)
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    files.write_bytes(path, out.getvalue())


def colours(names: Sequence[str]) -> list[str]:
    """A colour as #rrggbb for each name: rising with the numbers that the names end in, else as different as can be."""
    import matplotlib
    from matplotlib.colors import to_hex

    values = [number_in(name) for name in names]
    different = matplotlib.color_sequences["petroff10"]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(names) or len(names) < 3:
        if len(names) <= len(different):
            return [to_hex(different[i]) for i in range(len(names))]
        ranks = list(range(len(names)))
    else:
        order = sorted(set(numbers))
        ranks = [order.index(value) for value in numbers]
    sequential, last = matplotlib.colormaps["viridis"], max(max(ranks), 1)
    return [to_hex(sequential(DARKEST + (LIGHTEST - DARKEST) * rank / last)) for rank in ranks]


def number_in(name: str) -> float | None:
    """The number that a name ends in, as 0.1 in "model.dropout=0.1"."""
    found = _NUMBER.search(name)
    return float(found[0]) if found else None


def spans_decades(values: Sequence[float]) -> bool:
    """Whether values, all above zero, are so far apart that a logarithmic axis shows them better."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_FROM


def _draw(axes: "Axes", series: Mapping[str, Curve], marks: Mapping[str, tuple[float, float]]) -> None:
    colour = dict(zip(series, colours(list(series)), strict=True))
    for name, (xs, ys) in series.items():
        points = [value if math.isfinite(value) else math.nan for value in ys]
        # One point is no line.
        style = "o" if len(points) == 1 else "-"
        axes.plot(xs, points, style, color=colour[name], linewidth=1.4, label=_plain(name))
    for name, (at, value) in marks.items():
        axes.plot([at], [value], "o", color=colour.get(name, "black"), markersize=6, markeredgecolor="white", zorder=3)
        if name not in series:
            axes.annotate(_plain(name), (at, value), xytext=(6, 6), textcoords="offset points", parse_math=False)
    if spans_decades([value for _, ys in series.values() for value in ys if math.isfinite(value)]):
        axes.set_yscale("log")
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if len(series) <= LABELLED:
        _label_ends(axes, series, colour)
    else:
        columns = math.ceil(len(series) / 28)
        legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, frameon=False, ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _label_ends(axes: "Axes", series: Mapping[str, Curve], colour: Mapping[str, str]) -> None:
    """Name each curve to the right of the axes, at the height of its end or as near as its neighbours let it."""
    ends = {}
    for name, (xs, ys) in series.items():
        finite = [(at, value) for at, value in zip(xs, ys, strict=True) if math.isfinite(value)]
        if finite:
            ends[name] = finite[-1]
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = {name: float(to_axes.transform(end)[1]) for name, end in ends.items()}
    names = sorted(wanted, key=lambda name: wanted[name])
    for name, height in zip(names, spread([wanted[name] for name in names]), strict=True):
        axes.annotate(
            _plain(name), ends[name], xytext=(1.03, height), textcoords=axes.transAxes, color=colour[name],
            va="center", fontsize=9, annotation_clip=False, parse_math=False,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "color": colour[name], "linewidth": 0.5, "alpha": 0.6},
        )  # fmt: skip


def spread(heights: Sequence[float], apart: float = LABEL_HEIGHT) -> list[float]:
    """Rising heights from 0 to 1, moved as little as a pass up and a pass down need to part them by `apart`."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + apart) if placed else max(height, 0.0))
    ceiling = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - apart
    return placed


def _plain(text: str) -> str:
    """Without characters that XML or a terminal would not take."""
    return "".join(character if character.isprintable() else "�" for character in text)
