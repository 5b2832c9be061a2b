"""What a chart shows, and the cells that show it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from rich.text import Text

from tui_lab.text import braille
from tui_lab.text.axis import Axis, Floats, Tick, axis_over

Points = Sequence[tuple[float, float]]
YAxis = Literal["auto", "zero", "log"]
"""auto: from the lowest to the highest value shown; zero: from zero; log: logarithmic."""
Y_NAMES: dict[YAxis, str] = {"auto": "axis automatic", "zero": "axis from 0", "log": "log axis"}
Y_AXES = tuple(Y_NAMES)
LEAST_WIDTH_FOR_END_LABELS = 60
"""Of the whole chart."""
LARGEST_END_LABEL = 14
LARGEST_SHARE_OF_TICK_LABELS = 3
"""The labels of the y axis take at most one part in so many of the width."""
EMPTY = "no values yet"
MUTED = "muted"
"""A style of its own: that of the labels of the axes."""


@dataclass(frozen=True)
class Curve:
    """style: a Rich style; dotted: mark each point; end: what stands at its right end; background: it is not read.

    below: its line is drawn before the others, which stay visible; the marks of its points are not.
    """

    label: str
    points: Points
    style: str
    dotted: bool = False
    end: str = ""
    background: bool = False
    below: bool = False


@dataclass(frozen=True)
class Dot:
    """A marked point."""

    x: float
    y: float
    style: str
    sign: str = "●"


@dataclass(frozen=True)
class Reference:
    """A horizontal line at `y`. required: the automatic range always includes it."""

    y: float
    style: str
    label: str = ""
    required: bool = False


@dataclass(frozen=True)
class Drawing:
    """All that a chart shows. marks: the x and the style of vertical lines; whole: x values are whole numbers.

    log_x: the x axis is logarithmic.
    """

    curves: Sequence[Curve] = ()
    marks: Sequence[tuple[float, str]] = ()
    dots: Sequence[Dot] = ()
    references: Sequence[Reference] = ()
    y_axis: YAxis = "auto"
    x_unit: str = ""
    y_unit: str = ""
    whole: bool = False
    log_x: bool = False
    arrays: Sequence[tuple[Floats, Floats]] = field(init=False)
    """The x and the y values of each curve."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", [_columns(curve.points) for curve in self.curves])

    def x_axis(self, shown: tuple[float, float] | None) -> Axis:
        """Return the axis over `shown`, or over all points."""
        if shown is not None:
            return Axis(*shown, log=self.log_x)
        # Each curve is in order of x.
        ends = [x[i] for x, _ in self.arrays if len(x) for i in (0, -1)]
        values = np.array([*ends, *(dot.x for dot in self.dots)], dtype=float)
        return axis_over(values, log=self.log_x, least_share=0.0)

    def y_axis_over(self, x_axis: Axis) -> Axis:
        """Return the y axis over the points in the range of the x axis."""
        parts = [y[_visible(x, x_axis)] for x, y in self.arrays]
        parts.append(np.array([dot.y for dot in self.dots if x_axis.low <= dot.x <= x_axis.high], dtype=float))
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if len(values) and self.y_axis != "log":
            low = min(values.min(), 0.0) if self.y_axis == "zero" else values.min()
            margin = values.max() - low
            near = [
                reference.y
                for reference in self.references
                if reference.required or self.y_axis == "zero" or low - margin <= reference.y <= values.max() + margin
            ]
            values = np.array([*values, *near])
        return axis_over(values, log=self.y_axis == "log", from_zero=self.y_axis == "zero")


def _columns(points: Points) -> tuple[Floats, Floats]:
    array = np.array(points, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _visible(x: Floats, axis: Axis) -> slice:
    """Return the points on the axis, and one more on either side, to which the line leads."""
    first = int(np.searchsorted(x, axis.low))
    last = int(np.searchsorted(x, axis.high, side="right"))
    return slice(first, last) if last > first else slice(max(0, first - 1), last + 1)


class Plot:
    """The cells of a drawing: `chars` and `styles`, one string for each column of each line."""

    def __init__(
        self, drawing: Drawing, width: int, height: int, shown: tuple[float, float] | None, *, use_braille: bool
    ) -> None:
        self.drawing = drawing
        self._braille = use_braille
        self.chars = [[" "] * width for _ in range(height)]
        self.styles = [[""] * width for _ in range(height)]
        self.x_axis = drawing.x_axis(shown)
        self.y_axis = drawing.y_axis_over(self.x_axis)
        self.height = height - 1
        """Of the part with the curves, without the line of labels below."""
        if not any(len(x) for x, _ in drawing.arrays):
            self.left = self.width = 0
            if height:
                self.put(max(0, (width - len(EMPTY)) // 2), height // 2, EMPTY, MUTED)
            return
        y_ticks = self.y_axis.ticks(self._rows_differ, most=self.height // 2 + 1)
        ends = self._ends() if width >= LEAST_WIDTH_FOR_END_LABELS else []
        tick_width = max(len(text) for text in [drawing.y_unit, *(tick.label for tick in y_ticks)])
        self.left = min(tick_width + 2, width // LARGEST_SHARE_OF_TICK_LABELS)
        n_right = min(LARGEST_END_LABEL, max((len(label) for _, label in ends), default=0))
        self.width = width - self.left - (n_right + 1 if n_right else 0)
        if self.width < 2 or self.height < 1:
            self.width = 0
            return
        self._draw_y_axis(y_ticks)
        self._draw_x_axis(width)
        self._draw_references()
        self._draw_marks()
        curves = list(zip(drawing.curves, drawing.arrays, strict=True))
        for curve, (x, y) in sorted(curves, key=lambda each: (not each[0].background, not each[0].below)):
            self._draw_curve(curve, x, y)
        for curve, (x, y) in curves:
            self._draw_points(curve, x, y)
        for dot in drawing.dots:
            self._draw_dot(dot)
        self._draw_ends(ends)

    def column(self, x: float) -> int | None:
        """Return the column of a value on the x axis, if it is shown."""
        share = self.x_axis.share(x) if self.width else -1.0
        return self._column_of(share) if 0 <= share <= 1 else None

    def _column_of(self, share: float) -> int:
        """Return the column of a place on the x axis, 0 to 1."""
        return self.left + min(self.width - 1, int(share * self.width))

    def x_at(self, column: int) -> float:
        """Return the value in the middle of a column."""
        return self.x_axis.value((column - self.left + 0.5) / max(1, self.width))

    def edges(self, x: float) -> tuple[float, float]:
        """Return the values at the edges of the column of `x`, which is in its middle."""
        half = (self.x_at(1) - self.x_at(0)) / 2
        return x - half, x + half

    def values_at(self, x: float) -> Iterator[tuple[Curve, float, float]]:
        """Yield each curve that has points, with the x and the y of its point nearest to `x`."""
        for curve, (xs, ys) in zip(self.drawing.curves, self.drawing.arrays, strict=True):
            if len(xs):
                after = int(np.searchsorted(xs, x).clip(0, len(xs) - 1))
                before = max(0, after - 1)
                nearest = before if abs(xs[before] - x) <= abs(xs[after] - x) else after
                yield curve, float(xs[nearest]), float(ys[nearest])

    def row(self, y: float) -> int | None:
        """Return the line of a value on the y axis, if it is shown."""
        share = self.y_axis.share(y)
        return self._row_of(share) if 0 <= share <= 1 else None

    def _row_of(self, share: float) -> int:
        """Return the line of a place on the y axis, 0 to 1."""
        return min(self.height - 1, int((1 - share) * self.height))

    def put(self, column: int, row: int, text: str, style: str) -> None:
        """Write a text; what is beyond the edges is left out."""
        for place, char in enumerate(text, column):
            if 0 <= place < len(self.chars[row]):
                self.chars[row][place] = char
                self.styles[row][place] = style

    def _rows_differ(self, ticks: Sequence[Tick]) -> bool:
        rows = [self._row_of(tick.share) for tick in ticks]
        return all(below - above >= 2 for below, above in zip(rows, rows[1:], strict=False))

    def _draw_y_axis(self, ticks: Sequence[Tick]) -> None:
        for row in range(self.height):
            self.put(self.left - 1, row, "│", MUTED)
        for tick in ticks:
            row = self._row_of(tick.share)
            label = f"{tick.label} ┤"[-self.left :]
            self.put(self.left - len(label), row, label, MUTED)

    def _draw_x_axis(self, width: int) -> None:
        """Write the units and the labels below the curves; a label at the end is moved so that all of it is seen."""
        unit = self.drawing.y_unit
        if len(unit) + 2 <= self.left:
            self.put(self.left - 2 - len(unit), self.height, unit, MUTED)
        name = self.drawing.x_unit if len(self.drawing.x_unit) + 12 <= self.width else ""
        limit = width - len(name) - 2 if name else width

        def starts(ticks: Sequence[Tick]) -> list[int]:
            columns = [self._column_of(tick.share) for tick in ticks]
            return [
                max(self.left - 1, min(column - len(tick.label) // 2, limit - len(tick.label)))
                for column, tick in zip(columns, ticks, strict=True)
            ]

        def fit(ticks: Sequence[Tick]) -> bool:
            places = starts(ticks)
            return all(
                place + len(tick.label) + 2 <= after
                for place, tick, after in zip(places, ticks, places[1:], strict=False)
            )

        ticks = self.x_axis.ticks(fit, most=self.width // 4, whole=self.drawing.whole)
        for place, tick in zip(starts(ticks), ticks, strict=True):
            self.put(place, self.height, tick.label, MUTED)
        if name:
            self.put(width - len(name), self.height, name, MUTED)

    def _draw_references(self) -> None:
        for reference in self.drawing.references:
            row = self.row(reference.y)
            if row is not None:
                self.put(self.left, row, ("┄" if self._braille else "-") * self.width, reference.style)

    def _draw_marks(self) -> None:
        for x, style in self.drawing.marks:
            column = self.column(x)
            if column is not None:
                for row in range(self.height):
                    self.put(column, row, "┊" if self._braille else "|", style)

    def _draw_curve(self, curve: Curve, x: Floats, y: Floats) -> None:
        x_shares = self.x_axis.shares(x)
        y_shares = self.y_axis.shares(y)
        codes = braille.line(x_shares, y_shares, self.width, self.height)
        for row, column in np.argwhere(codes).tolist():
            self.chars[row][self.left + column] = braille.CHARS[codes[row, column]] if self._braille else "*"
            self.styles[row][self.left + column] = curve.style

    def _draw_points(self, curve: Curve, x: Floats, y: Floats) -> None:
        # Signs side by side would hide the line.
        if curve.dotted and len(x) <= self.width // 3:
            for point in zip(x, y, strict=True):
                self._draw_dot(Dot(*point, style=curve.style, sign="o"))

    def _draw_dot(self, dot: Dot) -> None:
        column = self.column(dot.x)
        row = self.row(dot.y)
        if column is not None and row is not None:
            column = max(self.left, min(column, self.left + self.width - len(dot.sign)))
            self.put(column, row, dot.sign if dot.sign.isascii() or self._braille else "@", dot.style)

    def _ends(self) -> list[tuple[float, Text]]:
        """Return the y value and the text of each label at the right; curves that end in one line share one."""
        ends = [
            (reference.y, Text(reference.label, reference.style))
            for reference in self.drawing.references
            if reference.label and self.row(reference.y) is not None
        ]
        lines: dict[int | None, Text] = {}
        for curve, (x, y) in zip(self.drawing.curves, self.drawing.arrays, strict=True):
            visible = _visible(x, self.x_axis)
            if not curve.end or not len(y[visible]):
                continue
            # Where the line leaves the chart, if it leads to a point beyond.
            last = float(np.interp(self.x_axis.high, x[visible], y[visible]))
            last = min(max(last, self.y_axis.low), self.y_axis.high)
            label = Text(curve.end, curve.style)
            shared = lines.setdefault(self.row(last), label)
            if shared is label:
                ends.append((last, label))
            elif len(shared) + 1 + len(label) <= LARGEST_END_LABEL:
                shared.append(" ").append_text(label)
            else:
                ends.append((last, label))
        return ends

    def _draw_ends(self, ends: Sequence[tuple[float, Text]]) -> None:
        """Write the labels at the right in the order of their values, each as near to its place as possible."""
        # Curves come after lines of reference, which are left out first.
        shown = sorted(ends[max(0, len(ends) - self.height) :], key=lambda end: -end[0])
        rows: list[int] = []
        for y, _ in shown:
            wanted = self.row(y)
            rows.append(max(0 if wanted is None else wanted, rows[-1] + 1 if rows else 0))
        limit = self.height - 1
        for i in reversed(range(len(rows))):
            rows[i] = min(rows[i], limit)
            limit = rows[i] - 1
        for row, (_, label) in zip(rows, shown, strict=True):
            column = self.left + self.width + 1
            self.put(column, row, label.plain[:LARGEST_END_LABEL], str(label.style))
            for start, end, style in label.spans:
                self.put(column + start, row, label.plain[start:end], str(style))
