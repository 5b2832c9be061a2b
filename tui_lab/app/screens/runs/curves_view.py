"""The loss curves of the marked runs in one chart."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tui_lab.app.screens.runs.marks import CURSOR, MarkedRun
from tui_lab.app.session.run_curves import LossCurves
from tui_lab.app.widgets.chart import Chart, Curve, Dot, Points, YAxis
from tui_lab.app.widgets.packed import packed
from tui_lab.runs.names import short_name
from tui_lab.runs.numbers import short_number
from tui_lab.text.plot import Y_AXES, Y_NAMES

NAME_WIDTH = 24
"""Of a name where the whole names do not fit on one line."""
HINT = "Space marks runs to compare"


@dataclass(frozen=True)
class RunCurves:
    """A marked run with its curves; None while they are read."""

    run: MarkedRun
    curves: LossCurves | None


class CurvesView(Vertical):
    """Call `show_runs`."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.y_axis: YAxis = "auto"
        self.validation = False
        """Show the validation loss instead of the train loss."""
        self._runs: list[RunCurves] = []
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="legend-of-runs")
        yield Chart(id="overlay")

    def on_resize(self) -> None:
        """Break the lines of the legend again, also when the view is shown after another one."""
        self._show_legend()

    def show_runs(self, runs: Sequence[RunCurves]) -> None:
        self._runs = list(runs)
        drawn = (self._runs, self.y_axis, self.validation)
        if drawn != self._drawn:
            self._drawn = drawn
            self._draw()

    def next_y_axis(self) -> None:
        self.y_axis = Y_AXES[(Y_AXES.index(self.y_axis) + 1) % len(Y_AXES)]
        self.show_runs(self._runs)

    def toggle_validation(self) -> None:
        self.validation = not self.validation
        self.show_runs(self._runs)

    def on_chart_pointed(self, message: Chart.Pointed) -> None:
        message.stop()
        self._show_legend()

    def on_keyboard_chart_range_chosen(self, message: Chart.RangeChosen) -> None:
        message.stop()
        self._show_legend()

    def _points(self, run: RunCurves) -> Points:
        return () if run.curves is None else run.curves.val if self.validation else run.curves.train

    def _draw(self) -> None:
        curves = []
        dots = []
        for run in self._runs:
            points = self._points(run)
            mark = run.run.mark
            end = f"{mark.letter} {short_number(points[-1][1])}" if points else ""
            curves.append(Curve(mark.letter, points, mark.style, end=end))
            if points:
                dots.append(Dot(*points[-1], style=f"bold {mark.style}", sign=mark.letter))
        self.query_one(Chart).draw(curves, dots=dots, y_axis=self.y_axis, x_unit="step", y_unit="nats", whole=True)
        self._show_legend()

    def _show_legend(self) -> None:
        """Name the runs with their last values, or with those at the step under the mouse."""
        chart = self.query_one(Chart)
        title = "validation loss" if self.validation else "mean train loss"
        axis = "" if self.y_axis == "auto" else f", {Y_NAMES[self.y_axis]}"
        items = [Text(f"{title}{axis} (x Y)", "dim")]
        if chart.is_zoomed:
            items.append(Text("zoomed · 0 shows all", "bold"))
        values = {run.run.mark.letter: self._points(run)[-1][1] for run in self._runs if self._points(run)}
        if chart.pointed_x is not None:
            items.append(Text(f"step {chart.pointed_x:,.0f}", "bold"))
            values = {curve.label: y for curve, _, y in chart.plot.values_at(chart.pointed_x)}
        width = self.size.width - 2
        longest = max((len(run.run.row.name) for run in self._runs), default=0)
        for name_width in range(max(longest, NAME_WIDTH), NAME_WIDTH - 1, -1):
            named = [self._item(run, values.get(run.run.mark.letter), name_width) for run in self._runs]
            if sum(item.cell_len + 2 for item in [*items, *named]) <= width:
                break
        items += named
        room = width - sum(item.cell_len + 2 for item in items)
        if not self._runs or (self._runs[0].run.mark == CURSOR and len(HINT) < room):
            items.append(Text(HINT, "dim"))
        self.query_one("#legend-of-runs", Static).update(packed(items, width))

    @staticmethod
    def _item(run: RunCurves, value: float | None, name_width: int) -> Text:
        """Return a run's letter, name and value."""
        if value is not None:
            text = short_number(value)
        else:
            text = "…" if run.curves is None else run.curves.problem or "no data yet"
        mark = run.run.mark
        return Text.assemble(
            (f"{mark.letter} ", f"bold {mark.style}"),
            (f"{short_name(run.run.row.name, name_width)} {text}", mark.style),
        )
