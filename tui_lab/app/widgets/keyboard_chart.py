"""A line chart that is zoomed and read with keys."""

import locale
from collections.abc import Sequence
from itertools import groupby

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui_lab.text.plot import MUTED, Curve, Drawing, Plot

ZOOM = 1.25
PAN_SHARE = 0.1
"""Of the visible range, that a key moves."""
LEAST_RANGE = 1e-3
"""Of all x values, the shortest range that is shown."""
CURSOR_LINE = "│"
POINT = "◆"
"""Where the cursor meets a curve; a dot is a mark of its own."""


def has_braille() -> bool:
    """Return whether the terminal's encoding has braille; otherwise curves are drawn with stars."""
    return "utf" in locale.getpreferredencoding(False).lower()


class KeyboardChart(Widget, can_focus=True):
    """Call `draw` with everything to show; a chosen range of x stays until `0` is pressed."""

    COMPONENT_CLASSES = {"chart--muted", "chart--selection", "chart--cursor"}
    DEFAULT_CSS = """
    KeyboardChart {
        & > .chart--muted { color: $foreground 60%; }
        & > .chart--selection { background: $primary-muted; }
        & > .chart--cursor { color: $foreground; text-style: bold; }
    }
    """
    BINDINGS = [
        Binding("plus,equals_sign", "zoom(1)", "Zoom in", show=False),
        Binding("minus", "zoom(-1)", "Zoom out", show=False),
        Binding("shift+left", "pan(-1)", "Pan left", show=False),
        Binding("shift+right", "pan(1)", "Pan right", show=False),
        Binding("0", "show_all", "Whole", show=False),
    ]

    class RangeChosen(Message):
        """Another range of x is shown, or all of it again."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.braille = has_braille()
        self._drawing = Drawing()
        self._plot: Plot | None = None
        self._shown: tuple[float, float] | None = None
        """The range of x that was chosen; None for all."""
        self._cursor: float | None = None
        self._pointer: int | None = None
        """The column under the mouse."""
        self._pressed: int | None = None
        """The column where a button was pressed."""
        self._notes: Sequence[str] = ()
        self._points_of: tuple[float | None, list[tuple[int, int, str]]] = (None, [])
        """The cursor, and the points nearest to it."""
        self._rich_styles: dict[tuple[str, bool], Style] = {}

    # What is shown

    def draw(self, curves: Sequence[Curve], **options: object) -> None:
        """Draw curves, with the other fields of a `Drawing`."""
        self._drawing = Drawing(curves, **options)  # type: ignore[arg-type]
        self._redraw()

    @property
    def plot(self) -> Plot:
        """What is drawn now."""
        if self._plot is None:
            self._plot = Plot(
                self._drawing, self.size.width, max(1, self.size.height), self._shown, use_braille=self.braille
            )
        return self._plot

    @property
    def shown(self) -> tuple[float, float]:
        """The range of x that is visible."""
        axis = self.plot.x_axis
        return axis.low, axis.high

    def show_range(self, low: float, high: float) -> None:
        """Show the points from `low` to `high`, as far as there are any."""
        whole = self._drawing.x_axis(None)
        span = max(min(high - low, whole.high - whole.low), LEAST_RANGE * (whole.high - whole.low))
        low = min(max(low, whole.low), whole.high - span)
        slack = 1e-9 * (whole.high - whole.low)
        everything = low <= whole.low + slack and low + span >= whole.high - slack
        self._show(None if everything else (low, low + span))

    def bring_into_view(self, x: float) -> None:
        """Move the visible range if `x` is outside of it."""
        low, high = self.shown
        if not low <= x <= high:
            self.show_range(x - (high - low) / 2, x + (high - low) / 2)

    def action_show_all(self) -> None:
        self._show(None)

    @property
    def is_zoomed(self) -> bool:
        """Whether only a range of x is shown that was chosen."""
        return self._shown is not None

    def _show(self, shown: tuple[float, float] | None) -> None:
        if shown != self._shown:
            self._shown = shown
            self.post_message(self.RangeChosen())
        self._redraw()

    def action_zoom(self, by: int) -> None:
        low, high = self.shown
        self._zoom((low + high) / 2 if self._cursor is None else self._cursor, ZOOM**by)

    def action_pan(self, by: int) -> None:
        low, high = self.shown
        distance = by * PAN_SHARE * (high - low)
        self.show_range(low + distance, high + distance)

    def _zoom(self, x: float, factor: float) -> None:
        """Show a range that is shorter by `factor`; `x` stays where it is."""
        low, high = self.shown
        self.show_range(x - (x - low) / factor, x + (high - x) / factor)

    # The cursor

    @property
    def cursor(self) -> float | None:
        """The x of the vertical line whose values are read: under the mouse, or else where `set_cursor` put it."""
        return self._cursor if self._pointer is None else self.pointed_x

    @property
    def pointed_x(self) -> float | None:
        """The x under the mouse."""
        return None if self._pointer is None else self.plot.x_at(self._pointer)

    def set_cursor(self, x: float | None, notes: Sequence[str] = ()) -> None:
        """Draw a vertical line at `x`, unless the mouse points elsewhere, with notes beside it."""
        if (x, notes) != (self._cursor, self._notes):
            self._cursor = x
            self._notes = notes
            self.refresh()

    def moved_cursor(self, by: int) -> float:
        """Return the x that is `by` columns from the cursor; without one, that of the last column."""
        plot = self.plot
        column = None if self._cursor is None else plot.column(self._cursor)
        last = plot.left + plot.width - 1
        if column is None:
            return plot.x_axis.high
        return plot.x_at(max(plot.left, min(column + by, last)))

    # Drawing

    def _redraw(self) -> None:
        self._plot = None
        self._points_of = (None, [])
        self._rich_styles.clear()
        self.refresh()

    def on_resize(self, event: events.Resize) -> None:
        self._redraw()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._redraw()

    def render_line(self, y: int) -> Strip:
        plot = self.plot
        if y >= len(plot.chars):
            return Strip.blank(self.size.width, self.rich_style)
        chars = plot.chars[y]
        styles = plot.styles[y]
        column = None if self.cursor is None else plot.column(self.cursor)
        if column is not None and y < plot.height:
            chars = chars.copy()
            styles = styles.copy()
            self._draw_cursor(chars, styles, column, y)
        selected = self._selected_columns() if y < plot.height else None
        base = self.rich_style
        segments = []
        place = 0
        for (style, inside), cells in groupby(
            zip(chars, styles, range(len(chars)), strict=True),
            key=lambda cell: (cell[1], selected is not None and selected[0] <= cell[2] <= selected[1]),
        ):
            text = "".join(cell[0] for cell in cells)
            if (style, inside) not in self._rich_styles:
                self._rich_styles[style, inside] = self._style(base, style, selected=inside)
            segments.append(Segment(text, self._rich_styles[style, inside]))
            place += len(text)
        return Strip(segments, place)

    def _style(self, base: Style, name: str, *, selected: bool) -> Style:
        style = base
        if name in (MUTED, "cursor"):
            component = self.get_component_styles(f"chart--{name}")
            background = self.background_colors[1]
            style += Style(color=background.blend(component.color, component.color.a).rich_color)
        elif name:
            style += Style.parse(name)
        if selected:
            style += Style(bgcolor=self.get_component_styles("chart--selection").background.rich_color)
        return style

    def _draw_cursor(self, chars: list[str], styles: list[str], column: int, y: int) -> None:
        """Draw the cursor's part of a line, the nearest points, and the notes beside it."""
        plot = self.plot
        if self._points_of[0] != self.cursor:
            self._points_of = (self.cursor, self._nearest(self.cursor))
        points = [(place, style) for row, place, style in self._points_of[1] if row == y]
        if not points:
            chars[column] = CURSOR_LINE if self.braille else "|"
            styles[column] = "cursor"
        dots = {plot.column(dot.x) for dot in self._drawing.dots if plot.row(dot.y) == y}
        for place, style in points:
            if place in dots:
                continue  # A mark of its own, such as the lowest value.
            chars[place] = POINT if self.braille else "X"
            styles[place] = style
        if y < len(self._notes):
            note = f" {self._notes[y]} "
            room_right = plot.left + plot.width - column - 1
            start = column + 1 if len(note) <= room_right else max(plot.left, column - len(note))
            for place, char in enumerate(note[: plot.left + plot.width - start], start):
                chars[place] = char
                styles[place] = "bold"

    def _nearest(self, cursor: float | None) -> list[tuple[int, int, str]]:
        """Return the line, the column and the style of the points nearest to the cursor."""
        plot = self.plot
        points = [] if cursor is None else [one for one in plot.values_at(cursor) if not one[0].background]
        places = [(plot.row(y), plot.column(x), f"bold {curve.style}") for curve, x, y in points]
        return [(row, column, style) for row, column, style in places if row is not None and column is not None]

    def _selected_columns(self) -> tuple[int, int] | None:
        if self._pressed is None or self._pointer is None:
            return None
        return min(self._pressed, self._pointer), max(self._pressed, self._pointer)
