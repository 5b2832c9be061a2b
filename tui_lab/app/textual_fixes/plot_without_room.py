"""textual-plot 0.10.1: moving the mouse over a plot without room ends the app.

The coordinate under the mouse is computed by a division by the plot's size, which is 0. Every pixel of such a plot is
given the same coordinate, so that moving or scrolling there changes nothing.
"""

from textual_plot import PlotWidget


class PlotWithoutRoom(PlotWidget):
    def get_coordinate_from_pixel(self, x: int, y: int) -> tuple[float, float]:
        if not self._scale_rectangle:
            return self._x_min, self._y_min
        return super().get_coordinate_from_pixel(x, y)
