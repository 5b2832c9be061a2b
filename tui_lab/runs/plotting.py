"""Draw several curves into one picture, SVG or PNG. matplotlib is imported when something is drawn."""

import io
import logging
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_lab.util import files
from tui_lab.util.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[Sequence[float], Sequence[float]]
"""The xs and ys of one series."""

MAX_LABELED = 16
"""With more curves than this a legend replaces the labels at their ends."""
LEGEND_ROWS = 28
LOG_FROM = 100.0
"""Ratio of the largest to the smallest value from which the y axis is logarithmic: two decades."""
DARKEST, LIGHTEST = 0.0, 0.86
"""The part of the viridis colormap that contrasts with a white page."""
LABEL_HEIGHT = 0.042
"""The least distance between labels, as a fraction of the height of the axes."""
# Text stays text in an SVG. With the salt, and without a date, equal curves give equal files.
RC_PARAMS: Any = {"svg.fonttype": "none", "svg.hashsalt": "tui-lab", "font.size": 10}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


def require_matplotlib() -> None:
    """Raise ConfigError, naming the extra, if matplotlib is not installed."""
    require("matplotlib", extra="plots", feature="drawing curves")


def save_overlay(
    series: Mapping[str, Curve],
    path: Path,
    *,
    title: str,
    x: str = "step",
    y: str = "loss",
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draw `series` into one picture at `path`, in the format of its suffix, .svg or .png.

    If every name ends in a number, the colors rise with it; otherwise they are as different as possible. marks: points
    by name, in the color of the series of that name, or black with a label. Values that are not finite leave a gap.
    Raises ValueError for another suffix, ConfigError without matplotlib, OSError if the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in ("svg", "png"):
        raise ValueError(f"{path.name}: must end in .svg or .png")
    require_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    # On first use matplotlib logs that it builds a font cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    with matplotlib.rc_context(RC_PARAMS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(10, 5.6), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, series, marks or {})
        axes.set_title(_printable(title), loc="left", parse_math=False)
        axes.set_xlabel(x, parse_math=False)
        axes.set_ylabel(y, parse_math=False)
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata={"Date": None} if kind == "svg" else None)
    with files.new_file(path) as stream:
        stream.write(out.getvalue())


def series_colors(names: Sequence[str]) -> list[str]:
    """Return a color (#rrggbb) per name: rising with the numbers the names end in, else as different as possible."""
    import matplotlib
    from matplotlib.colors import to_hex

    different = matplotlib.color_sequences["petroff10"]
    numbers = [value for value in map(trailing_number, names) if value is not None]
    if len(names) >= 3 and len(numbers) == len(names):
        order = sorted(set(numbers))
        ranks = [order.index(value) for value in numbers]
    elif len(names) <= len(different):
        return [to_hex(different[i]) for i in range(len(names))]
    else:
        ranks = list(range(len(names)))
    viridis = matplotlib.colormaps["viridis"]
    last_rank = max(max(ranks), 1)
    return [to_hex(viridis(DARKEST + (LIGHTEST - DARKEST) * rank / last_rank)) for rank in ranks]


def trailing_number(name: str) -> float | None:
    """Return the number that a name ends in, such as 0.1 in "model.dropout=0.1"."""
    match = _NUMBER.search(name)
    return float(match[0]) if match else None


def spans_decades(values: Sequence[float]) -> bool:
    """Return whether the values are positive and so far apart that a logarithmic axis shows them better."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_FROM


def _draw(axes: "Axes", series: Mapping[str, Curve], marks: Mapping[str, tuple[float, float]]) -> None:
    colors = dict(zip(series, series_colors(list(series)), strict=True))
    for name, (xs, ys) in series.items():
        values = [value if math.isfinite(value) else math.nan for value in ys]
        # A single point is invisible as a line.
        style = "o" if len(values) == 1 else "-"
        axes.plot(xs, values, style, color=colors[name], linewidth=1.4, label=_printable(name))
    for name, (at, value) in marks.items():
        axes.plot([at], [value], "o", color=colors.get(name, "black"), markersize=6, markeredgecolor="white", zorder=3)
        if name not in series:
            axes.annotate(_printable(name), (at, value), xytext=(6, 6), textcoords="offset points", parse_math=False)
    if spans_decades([value for _, ys in series.values() for value in ys if math.isfinite(value)]):
        axes.set_yscale("log")
    axes.grid(color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if len(series) <= MAX_LABELED:
        _label_ends(axes, series, colors)
    else:
        columns = math.ceil(len(series) / LEGEND_ROWS)
        legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, frameon=False, ncols=columns)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _label_ends(axes: "Axes", series: Mapping[str, Curve], colors: Mapping[str, str]) -> None:
    """Label each curve to the right of the axes, at the height of its end or as near to it as its neighbors allow."""
    ends = {}
    for name, (xs, ys) in series.items():
        finite = [(at, value) for at, value in zip(xs, ys, strict=True) if math.isfinite(value)]
        if finite:
            ends[name] = finite[-1]
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    height_by_name = {name: float(to_axes.transform(end)[1]) for name, end in ends.items()}
    names = sorted(height_by_name, key=lambda name: height_by_name[name])
    for name, height in zip(names, spread([height_by_name[name] for name in names]), strict=True):
        line = {"arrowstyle": "-", "relpos": (0, 0.5), "color": colors[name], "linewidth": 0.5, "alpha": 0.6}
        axes.annotate(
            _printable(name),
            ends[name],
            xytext=(1.03, height),
            textcoords=axes.transAxes,
            color=colors[name],
            va="center",
            fontsize=9,
            annotation_clip=False,
            parse_math=False,
            arrowprops=line,
        )


def spread(heights: Sequence[float], distance: float = LABEL_HEIGHT) -> list[float]:
    """Move heights between 0 and 1, given in rising order, until neighbors are at least `distance` apart.

    One pass pushes them up, a second one pushes those above 1 down.
    """
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + distance) if placed else max(height, 0.0))
    ceiling = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - distance
    return placed


def _printable(text: str) -> str:
    """Replace characters that XML does not allow."""
    return "".join(character if character.isprintable() else "�" for character in text)
