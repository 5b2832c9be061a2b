"""A line chart, drawn by textual-plot."""

import locale
import math
from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Grid
from textual_hires_canvas import HiResMode
from textual_plot import AxisFormatter, NumericAxisFormatter
from textual_plot.plot_widget import Legend

from tui_lab.app.textual_fixes.blank_line_style import StyledCanvas
from tui_lab.app.textual_fixes.label_past_edge import LabelCanvas
from tui_lab.app.textual_fixes.mouse_outside_terminal import is_outside
from tui_lab.app.textual_fixes.plot_without_room import PlotWithoutRoom
from tui_lab.app.textual_fixes.point_on_edge import DrawPointsOnEdge

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """style: a color name; dotted: mark each point."""

    label: str
    points: Points
    style: str
    dotted: bool = False


@dataclass(frozen=True)
class Dot:
    """A marked point."""

    x: float
    y: float
    style: str
    sign: str = "●"


class RowFormatter(NumericAxisFormatter):
    """Evenly spaced ticks at multiples of 1, 2 or 5 times a power of ten, at least two rows apart.

    textual-plot draws only the last of several ticks that fall on one row, so a tick in between would be missing.
    """

    def __init__(self) -> None:
        self.rows = 20
        """Of the axis."""

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 8) -> list[float]:
        span = max_ - min_
        if not (span > 0 and math.isfinite(span)):
            return [min_]
        n_intervals = max(1, min(max_ticks, self.rows // 2 - 1))
        power = 10.0 ** math.floor(math.log10(span / n_intervals))
        interval = next(step * power for step in (1, 2, 5, 10, 20) if span / (step * power) <= n_intervals)
        first = math.ceil(min_ / interval)
        last = math.floor(max_ / interval)
        return [count * interval for count in range(first, last + 1)]

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        if len(ticks) < 2:
            return [f"{tick:.4g}" for tick in ticks]
        decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-6))
        return [f"{tick:.{decimals}f}" for tick in ticks]


class LogFormatter(AxisFormatter):
    """Ticks at 1, 2 and 5 times powers of ten, for values given as their log10."""

    def get_ticks(self, min_: float, max_: float, max_ticks: int = 8) -> list[float]:
        decades = range(math.floor(min_), math.ceil(max_) + 1)
        shares = (1, 2, 5) if max_ - min_ < 3 else (1,)
        ticks = [d + math.log10(share) for d in decades for share in shares]
        inside = [tick for tick in ticks if min_ <= tick <= max_]
        if len(inside) >= 2:
            return inside
        return list(NumericAxisFormatter().get_ticks(min_, max_, max_ticks))

    def get_labels_for_ticks(self, ticks: Sequence[float]) -> list[str]:
        return [f"{10**tick:.3g}" for tick in ticks]


def has_braille() -> bool:
    """Return whether the terminal's encoding has braille; otherwise curves are drawn with stars."""
    return "utf" in locale.getpreferredencoding(False).lower()


class Chart(DrawPointsOnEdge, PlotWithoutRoom, inherit_bindings=False):
    """Call `draw` with everything to show; zoom and pan stay until `0` is pressed."""

    BINDINGS = [
        Binding("plus,equals_sign", "zoom_in", "Zoom in", show=False),
        Binding("minus", "zoom_out", "Zoom out", show=False),
        Binding("shift+left", "pan_left", "Pan left", show=False),
        Binding("shift+right", "pan_right", "Pan right", show=False),
        Binding("up,k", "pan_up", "Pan up", show=False),
        Binding("down,j", "pan_down", "Pan down", show=False),
        Binding("0", "reset_scales", "Whole", show=False),
    ]

    braille = True

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows = RowFormatter()
        self.set_y_formatter(self._rows)
        self.braille = has_braille()
        self._log = False
        self.invert_mouse_wheel = True  # Up zooms in, as in other programs.

    def compose(self) -> ComposeResult:
        with Grid():
            for name in ("margin-top", "margin-left", "plot"):
                yield StyledCanvas(1, 1, id=name)
            yield LabelCanvas(1, 1, id="margin-bottom")
        yield Legend(id="legend")

    def on_mount(self) -> None:
        self.margin_top = 0
        self.margin_bottom = 1

    async def on_event(self, event: events.Event) -> None:
        if not is_outside(event, self.screen.region):
            await super().on_event(event)

    def draw(
        self,
        curves: Sequence[Curve],
        *,
        marks: Sequence[tuple[float, str]] = (),
        dots: Sequence[Dot] = (),
        references: Sequence[tuple[float, str]] = (),
        log: bool = False,
    ) -> None:
        """Draw curves; `marks` are vertical lines (x, style), `references` horizontal lines (y, style).

        `dots` are drawn last, on top.
        """
        self._rows.rows = self.size.height
        with self.app.batch_update():
            self.clear()
            if log != self._log:
                self._log = log
                self.set_y_formatter(LogFormatter() if log else self._rows)
                self.set_ylimits(None, None)
            # References first, under the curves.
            xs = [x for curve in curves for x, _ in curve.points]
            for y, style in references:
                if xs and (not log or y > 0):
                    self._line([(min(xs), y), (max(xs), y)], style)
            for curve in curves:
                self._draw_curve(curve)
            for x, style in marks:
                self.add_v_line(x, style)
            for dot in dots:
                xs, ys = self._scaled([(dot.x, dot.y)])
                sign = dot.sign if dot.sign.isascii() or self.braille else "@"
                self.scatter(xs, ys, marker=sign, marker_style=dot.style)

    def _draw_curve(self, curve: Curve) -> None:
        if not curve.points:
            return
        if curve.dotted or not self.braille:
            xs, ys = self._scaled(curve.points)
            self.scatter(xs, ys, marker="o" if curve.dotted else "*", marker_style=curve.style)
        if self.braille:
            self._line(curve.points, curve.style)

    def _line(self, points: Points, style: str) -> None:
        xs, ys = self._scaled(points)
        self.plot(xs, ys, line_style=style, hires_mode=HiResMode.BRAILLE if self.braille else None)

    def _scaled(self, points: Points) -> tuple[list[float], list[float]]:
        if self._log:
            points = [(x, math.log10(y)) for x, y in points if y > 0]
        return [x for x, _ in points], [y for _, y in points]
