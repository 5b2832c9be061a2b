"""Curves as SVG that stands in a page: drawn by matplotlib, coloured by the page's own style."""

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tui_lab.core.runs.curves import Curves, Points
from tui_lab.report.page import Html
from tui_lab.runs.plotting import spans_decades
from tui_lab.util.thinning import extremes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 500
"""Groups of neighbours a curve is thinned to; each keeps its least and greatest value."""
DOTTED = 60
"""Evaluations fewer than these are drawn with a dot each."""

INK, SOFT, GRID, TRAIN, RUNNING, VALIDATION, BEST, MARK = (f"#0a0b{i:02x}" for i in range(8))
_VARIABLES = dict(
    zip(
        (INK, SOFT, GRID, TRAIN, RUNNING, VALIDATION, BEST, MARK),
        ("ink", "soft", "grid", "train", "running", "val", "best", "mark"),
        strict=True,
    )
)
"""Colours that stand for those of the page, which follow the reader's light or dark."""


def loss_chart(curves: Curves) -> Html:
    """The loss of updates, its running mean and validation; the best point and each live change marked.

    Below it the learning rate, where it was not always the same.
    """
    varied = len(set(curves.lr[1])) > 1

    def draw(figure: Any) -> None:
        if varied:
            loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            _line(rate, curves.lr, RUNNING, "learning rate")
            rate.set_ylabel("learning rate")
            rate.set_xlabel("step")
            _dress(rate)
        else:
            loss = figure.subplots()
            loss.set_xlabel("step")
        _losses(loss, curves)

    return _svg(draw, 6.0 if varied else 4.8, "loss over steps")


def overlay_chart(series: Mapping[str, Points], *, label: str) -> tuple[Html, str]:
    """Several curves over each other, and the style that colours them: one set for light, one for dark."""
    from tui_lab.runs.plotting import colours

    stand_ins = [f"#0c{i // 256:02x}{i % 256:02x}" for i in range(len(series))]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (name, points), colour in zip(series.items(), stand_ins, strict=True):
            _line(axes, points, colour, name, width=1.4)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        _scale(axes, series.values())
        _dress(axes)
        _legend(axes, columns=1 + (len(series) - 1) // 20)

    svg = _svg(draw, 5.2, f"{label} of {len(series)} runs over steps")
    for i, colour in enumerate(stand_ins):
        svg = Html(svg.replace(colour, f"var(--s{i})"))
    light = colours(list(series))
    if len(set(light)) < len(series):
        # Numbers in the names would tell rising colours, and several curves have the same one.
        light = colours([f"{name})" for name in series])
    style = _variables(light) + "@media (prefers-color-scheme: dark) {" + _variables(map_lighter(light)) + "}"
    return svg, style + "@media print {" + _variables(light) + "}"


def map_lighter(colours: list[str]) -> list[str]:
    """Each colour (#rrggbb) mixed with white, so that it can be told from a dark page."""
    return ["#" + "".join(f"{round(0.6 * int(c[i : i + 2], 16) + 0.4 * 255):02x}" for i in (1, 3, 5)) for c in colours]


def _variables(colours: list[str]) -> str:
    return ":root {" + "".join(f"--s{i}: {colour};" for i, colour in enumerate(colours)) + "}"


def _losses(axes: "Axes", curves: Curves) -> None:
    _line(axes, curves.train, TRAIN, "train, each update", width=0.9)
    _line(axes, curves.running, RUNNING, "train, running mean", width=1.6)
    dots = "." if len(curves.validation[0]) < DOTTED else ""
    _line(axes, curves.validation, VALIDATION, "validation", width=1.6, marker=dots)
    _scale(axes, (curves.train, curves.validation))
    if curves.chance is not None and curves.train[0]:
        axes.axhline(curves.chance, color=SOFT, linewidth=0.9, linestyle=(0, (1, 3)))
        axes.annotate("ln V, a uniform guess", (1, curves.chance), xycoords=("axes fraction", "data"), color=SOFT,
                      fontsize=8, ha="right", va="bottom", xytext=(0, 2), textcoords="offset points")  # fmt: skip
    if curves.best is not None:
        axes.plot(*curves.best, "o", color=BEST, markersize=8, fillstyle="none", markeredgewidth=2)
        # Away from the end that is near.
        side = "right" if curves.best[0] > sum(axes.get_xlim()) / 2 else "left"
        axes.annotate(f"best {curves.best[1]:.4f}", curves.best, color=BEST, fontsize=9, xytext=(0, 9),
                      textcoords="offset points", ha=side)  # fmt: skip
    for number, change in enumerate(curves.changes, 1):
        axes.axvline(change.step, color=MARK, linewidth=1, linestyle="--")
        axes.annotate(str(number), (change.step, 1), xycoords=("data", "axes fraction"), color=MARK, fontsize=9,
                      xytext=(3, -10), textcoords="offset points")  # fmt: skip
    axes.set_ylabel("loss, nats")
    _dress(axes)
    _legend(axes)


def _line(axes: "Axes", points: Points, colour: str, name: str, *, width: float = 1.2, marker: str = "") -> None:
    """One curve; what is not finite is left out."""
    known = [(step, value) for step, value in zip(*points, strict=True) if math.isfinite(value)]
    thinned = extremes(known, COLUMNS, value=itemgetter(1))
    if thinned:
        axes.plot(*zip(*thinned, strict=True), color=colour, linewidth=width, label=name,
                  marker=marker or ("o" if len(thinned) == 1 else ""), markersize=4)  # fmt: skip


def _scale(axes: "Axes", series: Any) -> None:
    if spans_decades([value for _, ys in series for value in ys if math.isfinite(value)]):
        axes.set_yscale("log")


def _dress(axes: "Axes") -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(which="both", color=SOFT, labelcolor=SOFT)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)


def _legend(axes: "Axes", columns: int = 1) -> None:
    if not axes.get_legend_handles_labels()[1]:
        return
    legend = axes.legend(frameon=False, fontsize=9 if columns == 1 else 7, labelcolor=INK, ncols=columns)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _svg(draw: Callable[[Any], None], height: float, label: str) -> Html:
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "tui-lab", "font.size": 10, "text.color": INK}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=(9.5, height), layout="constrained", facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.set_facecolor("none")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return _inline(out.getvalue(), label)


def _inline(svg: str, label: str) -> Html:
    """An SVG file as an element of a page: without its prologue, names that repeat and size; coloured by the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    named = f'role="img" aria-label="{html.escape(label)}" stroke-linejoin="round"'
    svg = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: f"<svg {found[1]} {named}>", svg, count=1)
    for colour, name in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Html(svg)
