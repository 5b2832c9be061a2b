"""Curves as SVG inside a page: drawn by matplotlib, colored by the page's CSS variables."""

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tui_lab.core.runs.curves import Curves, Points
from tui_lab.runs.numbers import short_number
from tui_lab.runs.plotting import RC_PARAMS, series_colors, spans_decades
from tui_lab.util.thinning import extremes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 500
"""Groups of neighbors that a curve is thinned to; each keeps its least and greatest value."""
MARKERS_BELOW = 60
"""With fewer evaluations than this, each is drawn with a dot."""
LEGEND_ROWS = 20
FIGURE_WIDTHS = {"wide": 9.5, "narrow": 4.6}
"""Inches, by the class of the element; style.css shows one of them."""

# matplotlib needs real colors. Each of these stands for a CSS variable of the page, which follows light and dark mode.
_PLACEHOLDERS = {
    f"#0a0b{i:02x}": f"--{name}"
    for i, name in enumerate(("ink", "soft", "grid", "train", "running", "val", "best", "mark"))
}
INK, SOFT, GRID, TRAIN, RUNNING, VALIDATION, BEST, MARK = _PLACEHOLDERS


@dataclass(frozen=True)
class Chart:
    """SVG elements, of which a page shows the one that fits the screen.

    style: the CSS that defines the variables of their colors beyond those of every page.
    """

    svg: str
    style: str = ""


def loss_chart(curves: Curves) -> Chart:
    """Draw the loss of each step, its running mean, the validation loss, the best point and the live changes.

    If the learning rate varies, it is drawn below.
    """
    lr_varies = len(set(curves.lr[1])) > 1

    def draw(figure: "Figure") -> None:
        if lr_varies:
            loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            _plot_line(rate, curves.lr, RUNNING, "learning rate")
            rate.set_ylabel("learning rate")
            rate.set_xlabel("step")
            _style_axes(rate)
        else:
            loss = figure.subplots()
            loss.set_xlabel("step")
        _plot_losses(loss, curves)

    return Chart(_draw_sizes(draw, 6.0 if lr_varies else 4.8, "loss over steps", _PLACEHOLDERS))


@dataclass(frozen=True)
class Backdrop:
    """What a chart shows behind its curves. Its vertical axis is linear and begins at 0.

    ghosts: gray curves by name; guess: a point with the name "your guess"; uniform_loss: a horizontal line.
    """

    ghosts: Mapping[str, Points]
    guess: tuple[float, float] | None = None
    uniform_loss: float | None = None


def overlay_chart(series: Mapping[str, Points], *, label: str, backdrop: Backdrop | None = None) -> Chart:
    """Draw several curves into one chart; its style has a color for each, one set for light mode and one for dark."""
    placeholders = [f"#0c{i // 256:02x}{i % 256:02x}" for i in range(len(series))]

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for name, points in backdrop.ghosts.items() if backdrop is not None else ():
            _plot_line(axes, points, SOFT, name, width=1.4)
        for (name, points), color in zip(series.items(), placeholders, strict=True):
            _plot_line(axes, points, color, name, width=1.4)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        if backdrop is not None:
            _plot_backdrop(axes, backdrop)
        else:
            _set_scale(axes, series.values())
        _style_axes(axes)
        _add_legend(axes, columns=1 + (len(series) - 1) // LEGEND_ROWS)

    variables = _PLACEHOLDERS | {color: f"--s{i}" for i, color in enumerate(placeholders)}
    svg = _draw_sizes(draw, 5.2, f"{label} of {len(series)} runs over steps", variables)
    light = _distinct_colors(list(series))
    dark = [_lighter(color) for color in light]
    return Chart(
        svg,
        f"{_variables(light)}\n@media (prefers-color-scheme: dark) {{ {_variables(dark)} }}\n"
        f"@media print {{ {_variables(light)} }}",
    )


def _plot_backdrop(axes: "Axes", backdrop: Backdrop) -> None:
    """Plot the guess and the uniform loss, and begin the vertical axis at 0."""
    if backdrop.guess is not None:
        axes.plot(*backdrop.guess, "x", color=MARK, markersize=9, markeredgewidth=2, clip_on=False, label="your guess")
    if backdrop.uniform_loss is not None:
        _mark_uniform_loss(axes, backdrop.uniform_loss)
    # Room for the name of the uniform loss.
    axes.set_ylim(0, 1.08 * max(axes.get_ylim()[1], backdrop.uniform_loss or 0))


def _distinct_colors(names: Sequence[str]) -> list[str]:
    colors = series_colors(names)
    if len(set(colors)) < len(names):
        # The names end in equal numbers, whose colors are equal; without the numbers each gets its own.
        colors = series_colors([f"{name})" for name in names])
    return colors


def _lighter(color: str) -> str:
    """Mix a color (#rrggbb) with white, so that it contrasts with a dark page."""
    return "#" + "".join(f"{round(0.6 * int(color[i : i + 2], 16) + 0.4 * 255):02x}" for i in (1, 3, 5))


def _variables(colors: Sequence[str]) -> str:
    return ":root { " + " ".join(f"--s{i}: {color};" for i, color in enumerate(colors)) + " }"


def _plot_losses(axes: "Axes", curves: Curves) -> None:
    _plot_line(axes, curves.train, TRAIN, "train, each step", width=0.9)
    _plot_line(axes, curves.running, RUNNING, "train, running mean", width=1.6)
    marker = "." if len(curves.validation[0]) < MARKERS_BELOW else ""
    _plot_line(axes, curves.validation, VALIDATION, "validation", width=1.6, marker=marker)
    _set_scale(axes, (curves.train, curves.validation))
    if curves.chance is not None and curves.train[0]:
        _mark_uniform_loss(axes, curves.chance)
    if curves.best is not None:
        _mark_best(axes, curves.best)
    for number, change in enumerate(curves.changes, 1):
        axes.axvline(change.step, color=MARK, linewidth=1, linestyle="--")
        axes.annotate(
            str(number),
            (change.step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -10),
            textcoords="offset points",
            color=MARK,
            fontsize=9,
        )
    # A script may train with another loss than cross-entropy; then there is no vocabulary either.
    axes.set_ylabel("loss, nats" if curves.chance is not None else "loss")
    _style_axes(axes)
    _add_legend(axes)


def _mark_uniform_loss(axes: "Axes", loss: float) -> None:
    axes.axhline(loss, color=SOFT, linewidth=0.9, linestyle=(0, (1, 3)))
    axes.annotate(
        "uniform loss, ln V",
        (1, loss),
        xycoords=("axes fraction", "data"),
        xytext=(0, 2),
        textcoords="offset points",
        color=SOFT,
        fontsize=8,
        ha="right",
        va="bottom",
    )


def _mark_best(axes: "Axes", best: tuple[int, float]) -> None:
    # At the end of the run the ring extends beyond the axes.
    axes.plot(*best, "o", color=BEST, markersize=8, fillstyle="none", markeredgewidth=2, clip_on=False)
    # The label extends away from the nearer end of the axis.
    side = "right" if best[0] > sum(axes.get_xlim()) / 2 else "left"
    axes.annotate(
        f"best {short_number(best[1])}",
        best,
        xytext=(0, 9),
        textcoords="offset points",
        color=BEST,
        fontsize=9,
        ha=side,
    )


def _plot_line(axes: "Axes", points: Points, color: str, name: str, *, width: float = 1.2, marker: str = "") -> None:
    """Plot the finite points of a curve, thinned to COLUMNS groups."""
    finite = [(step, value) for step, value in zip(*points, strict=True) if math.isfinite(value)]
    thinned = extremes(finite, COLUMNS, value=itemgetter(1))
    if not thinned:
        return
    marker = marker or ("o" if len(thinned) == 1 else "")
    xs, ys = zip(*thinned, strict=True)
    axes.plot(xs, ys, color=color, linewidth=width, label=name, marker=marker, markersize=4)


def _set_scale(axes: "Axes", series: Iterable[Points]) -> None:
    if spans_decades([value for _, ys in series for value in ys if math.isfinite(value)]):
        axes.set_yscale("log")


def _style_axes(axes: "Axes") -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(which="both", color=SOFT, labelcolor=SOFT)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)


def _add_legend(axes: "Axes", columns: int = 1) -> None:
    if not axes.get_legend_handles_labels()[1]:
        return
    legend = axes.legend(frameon=False, fontsize=9 if columns == 1 else 7, labelcolor=INK, ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _draw_sizes(draw: Callable[["Figure"], None], height: float, label: str, variables: Mapping[str, str]) -> str:
    """Return an SVG element for wide screens and one for phones, on which a scaled chart could not be read."""
    return "\n".join(
        f'<div class="{name}">{_draw_svg(draw, (width, height), label, variables)}</div>'
        for name, width in FIGURE_WIDTHS.items()
    )


def _draw_svg(
    draw: Callable[["Figure"], None], size: tuple[float, float], label: str, variables: Mapping[str, str]
) -> str:
    """Return the SVG element of what `draw` plots, of a size in inches.

    variables: the CSS variable of each placeholder color.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Ids within the SVG must not repeat in the page.
    rc_params: Any = RC_PARAMS | {"text.color": INK, "svg.hashsalt": f"tui-lab {size}"}
    with matplotlib.rc_context(rc_params), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
        out = io.StringIO()
        # savefig would draw everything once before, for the layout alone.
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})  # type: ignore[no-untyped-call]
    element = _inline(out.getvalue(), label)
    return re.sub(r"#[0-9a-f]{6}", lambda match: _color(match[0], variables), element)


def _color(color: str, variables: Mapping[str, str]) -> str:
    return f"var({variables[color]})" if color in variables else color


def _inline(svg: str, label: str) -> str:
    """Turn an SVG file into an element of a page: no prologue, no ids that could repeat, no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    attributes = f'role="img" aria-label="{html.escape(label)}" stroke-linejoin="round"'
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda match: f"<svg {match[1]} {attributes}>", svg, count=1)
