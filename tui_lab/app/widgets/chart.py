"""A line chart that is zoomed and read with keys and mouse."""

from dataclasses import dataclass

from textual import events
from textual.message import Message

from tui_lab.app.widgets.keyboard_chart import ZOOM, KeyboardChart, has_braille
from tui_lab.text.plot import Curve, Dot, Drawing, Points, Reference, YAxis

__all__ = ["Chart", "Curve", "Dot", "Drawing", "Points", "Reference", "YAxis", "has_braille"]


class Chart(KeyboardChart):
    """The wheel zooms at the pointer; dragging selects a range; where the mouse points, values are read."""

    @dataclass
    class Pointed(Message):
        """The mouse points at another place. x: the value there; None: at none."""

        x: float | None

    @dataclass
    class Clicked(Message):
        """x: the value at the place that was clicked."""

        x: float

    def _column_of(self, event: events.MouseEvent) -> int | None:
        """Return the column of the plot under the mouse; while a range is selected, the nearest one."""
        offset = event.get_content_offset(self) or event.offset
        plot = self.plot
        last = plot.left + plot.width - 1
        if self._pressed is not None:
            return max(plot.left, min(offset.x, last))
        return offset.x if plot.left <= offset.x <= last and 0 <= offset.y < plot.height else None

    def on_mouse_move(self, event: events.MouseMove) -> None:
        self._point_at(self._column_of(event))

    def on_leave(self, event: events.Leave) -> None:
        if self._pressed is None:
            self._point_at(None)

    def _point_at(self, column: int | None) -> None:
        if column != self._pointer:
            self._pointer = column
            self.post_message(self.Pointed(self.pointed_x))
            self.refresh()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        column = self._column_of(event)
        if event.button == 1 and column is not None:
            self._pressed = column
            self._pointer = column
            self.capture_mouse()

    def on_mouse_up(self, event: events.MouseUp) -> None:
        if self._pressed is None:
            return
        selected = self._selected_columns() or (self._pressed, self._pressed)
        self.release_mouse()
        self._pressed = None
        first, last = selected
        if first < last:
            self._pointer = None
            start, _ = self.plot.edges(self.plot.x_at(first))
            _, end = self.plot.edges(self.plot.x_at(last))
            self.show_range(start, end)
            self.post_message(self.Pointed(None))
        else:
            self.post_message(self.Clicked(self.plot.x_at(first)))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._zoom_at(event, ZOOM)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._zoom_at(event, 1 / ZOOM)

    def _zoom_at(self, event: events.MouseEvent, factor: float) -> None:
        column = self._column_of(event)
        if column is not None:
            event.stop()
            self._zoom(self.plot.x_at(column), factor)
