"""The loss curves of the marked runs in one chart."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from tui_lab.app.screens.run_columns import short
from tui_lab.app.screens.run_marks import CURSOR, MarkedRun
from tui_lab.app.session.run_curves import LossCurves
from tui_lab.app.widgets.chart import Chart, Curve, Dot, YAxis
from tui_lab.app.widgets.numbers import short_number
from tui_lab.app.widgets.plot import Y_AXES, Y_NAMES

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

    def _draw(self) -> None:
        title = "validation loss" if self.validation else "mean train loss"
        legend = Text(no_wrap=True, overflow="ellipsis")
        legend.append(f"{title}{f', {Y_NAMES[self.y_axis]}' if self.y_axis != 'auto' else ''} (x Y)  ", "dim")
        curves = []
        dots = []
        for run in self._runs:
            points = () if run.curves is None else run.curves.val if self.validation else run.curves.train
            mark = run.run.mark
            legend.append_text(self._legend(run, points[-1][1] if points else None))
            end = f"{mark.letter} {short_number(points[-1][1])}" if points else ""
            curves.append(Curve(mark.letter, points, mark.style, end=end))
            if points:
                dots.append(Dot(*points[-1], style=f"bold {mark.style}", sign=mark.letter))
        if not self._runs or (self._runs[0].run.mark == CURSOR and legend.cell_len + len(HINT) < self.size.width):
            legend.append(HINT, "dim")
        self.query_one("#legend-of-runs", Static).update(legend)
        self.query_one(Chart).draw(curves, dots=dots, y_axis=self.y_axis, x_unit="step", y_unit="nats", whole=True)

    @staticmethod
    def _legend(run: RunCurves, last: float | None) -> Text:
        """Return a run's letter, name and last value, with spaces that do not break the line."""
        if last is not None:
            value = short_number(last)
        else:
            value = "…" if run.curves is None else run.curves.problem or "no data yet"
        mark = run.run.mark
        name = f"{short(run.run.row.name, 24)} {value}".replace(" ", "\xa0")
        return Text.assemble((f"{mark.letter}\xa0", f"bold {mark.style}"), (f"{name}  ", mark.style))
