"""textual-plot 0.10.1: a point at the edge of the visible range is hidden by the frame.

Its pixel is one beyond the last cell of the plot, where the frame is drawn. Such a point is drawn in the outermost
cell.
"""

from textual_plot import PlotWidget
from textual_plot.plot_widget import FloatScalar, ScatterPlot


class DrawPointsOnEdge(PlotWidget):
    _drawing_points = False

    def _render_scatter_plot(self, dataset: ScatterPlot) -> None:
        self._drawing_points = True
        super()._render_scatter_plot(dataset)
        self._drawing_points = False

    def get_pixel_from_coordinate(self, x: FloatScalar, y: FloatScalar) -> tuple[int, int]:
        column, line = super().get_pixel_from_coordinate(x, y)
        box = self._scale_rectangle
        visible = self._x_min <= x <= self._x_max and self._y_min <= y <= self._y_max
        if self._drawing_points and visible:
            return max(box.x, min(column, box.right - 1)), max(box.y, min(line, box.bottom - 1))
        return column, line
