"""The loss pane: a large chart of one metric, and a sparkline for each."""

from collections.abc import Callable, Sequence
from pathlib import Path

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.panes.loss_curves import SMOOTHING, Backdrop, ChartView, shown_metrics
from tui_lab.app.panes.loss_readout import after_requested, legend, requested_text, values_at
from tui_lab.app.panes.loss_text import best_text, change_text, more_text, nearest, way_text
from tui_lab.app.panes.marked_steps import NO_MARK, MarkedSteps
from tui_lab.app.panes.metrics import Metric, sparkline_rows
from tui_lab.app.panes.overlays import LETTERS, Overlay, chosen_overlays, runs_of_same_task
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.y_axes import YAxes
from tui_lab.app.screens.pick_runs import PickRuns
from tui_lab.app.session.progress import AXES, Axis
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import Chart, has_braille
from tui_lab.app.widgets.sparklines import Sparklines
from tui_lab.core import events as ev
from tui_lab.runs.live_changes import merge_changes
from tui_lab.text.plot import Y_NAMES

MORE_LINES = 3
"""Lines for further measurements, at most, as in lab.tcss."""
LEAST_HEIGHT_FOR_SPARKLINES = 16
LEAST_HEIGHT_FOR_MORE = 19
"""For all lines of further measurements; one less is shown below it."""
LEAST_SPARKLINES = 6
SPARKLINES_SHARE = 0.3
"""Of the height of the pane, for the sparklines, if that is more than the least number."""
HINTS = (
    "[ ] metric", "←→ values", "Enter rows", "n N spike", "a overlay", "Y y-axis", "x x-axis", "m smooth", "+ - zoom",
    "0 all",
)  # fmt: skip


class LossPane(Pane):
    number = 2
    title = "Loss"
    help_name = "loss"
    main = "#chart"
    hints: Sequence[str] = HINTS

    BINDINGS = named(
        "loss",
        Binding("Y", "y_axis", "Vertical axis", show=False),
        Binding("m", "smooth", "Smoothing", show=False),
        Binding("x", "x_axis", "Horizontal axis", show=False),
        Binding("a", "overlay", "Overlay runs", show=False),
        Binding("left_square_bracket", "metric(-1)", "Previous metric", show=False),
        Binding("right_square_bracket", "metric(1)", "Next metric", show=False),
        Binding("left,h", "cursor(-1)", "Cursor left", show=False),
        Binding("right,l", "cursor(1)", "Cursor right", show=False),
        Binding("escape", "remove_cursor", "Remove the cursor", show=False),
        Binding("n", "spike(1)", "Next spike", show=False),
        Binding("N", "spike(-1)", "Previous spike", show=False),
        Binding("enter", "rows", "Rows of the step", show=False),
    )

    def __init__(self, id: str, show_rows: Callable[[int], None] = lambda step: None) -> None:
        """show_rows: shows the rows of a step."""
        super().__init__(id=id)
        self._show_rows = show_rows
        self._y_axes = YAxes()
        self.smoothing = 0
        """Index into `SMOOTHING`."""
        self.axis: Axis = "step"
        self.metric = "loss"
        """The key of the metric in the chart."""
        self.cursor: float | None = None
        """The step whose values are shown."""
        self.overlays: list[Overlay] = []
        self.backdrop = Backdrop()
        """What a lesson draws behind the curves."""
        self.floor: float | None = None
        """The lowest loss that a bug found by the doctor allows."""
        self._requested: list[ev.Changed] = []
        """The changes that the readout shows as requested."""
        self.marked_steps = MarkedSteps()
        self._drawn: object = None
        self._state: LabState | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="readout")
        yield Static(id="best")
        yield Static(id="more")
        yield Chart(id="chart")
        yield Sparklines(id="sparks", ascii_only=not has_braille())

    def on_resize(self, event: Resize) -> None:
        self.set_class(self.size.height < LEAST_HEIGHT_FOR_SPARKLINES, "-low")
        self._drawn = None

    def show(self, state: LabState, now: float) -> None:
        self._state = state
        logged = tuple(state.logged.values())
        drawn = (
            state.step,
            state.phase,
            len(state.changes),
            state.evaluated,
            state.restored,
            self.size,
            self.floor,
            logged,
            len(state.spikes.recorded),
            len(self.overlays),
        )
        if drawn != self._drawn:
            self._drawn = drawn
            self.redraw()
        elif state.requested.changes != self._requested:
            self._show_readout()

    def rewound(self) -> None:
        self.cursor = None
        self._drawn = None

    @property
    def last_step(self) -> int:
        """The latest step of the curves that are drawn."""
        return 0 if self._state is None else self._state.step

    @property
    def state_text(self) -> str:
        y_axis = self._y_axes.of(self.metric)
        parts = [Y_NAMES[y_axis]] if y_axis != "auto" else []
        if weight := SMOOTHING[self.smoothing]:
            parts.append(f"smoothed {weight}")
        is_from_zero = self.metric == "loss" and y_axis == "zero"
        if is_from_zero and self._state is not None and is_from_ln_v(self._state, self.backdrop):
            parts.append(way_text(self._state))
        if self.query_one(Chart).is_zoomed:
            parts.append("zoomed · 0 shows all")
        return ", ".join(filter(None, parts))

    def copied(self) -> str:
        """Return the values at the cursor, or the run's path."""
        if self._state is None or self._state.ready is None:
            return ""
        return self._state.ready.path if self.cursor is None else str(self.query_one("#readout", Static).content)

    # Drawing

    def redraw(self) -> None:
        state = self._state
        if state is None:
            return
        self._y_axes.begin(state, from_zero=self.backdrop.from_zero)
        metrics = shown_metrics(state, self.backdrop)
        view = self._view(metrics)
        title = f"{self.number} {self.title}" + ("" if view.metric.key == "loss" else f" · {view.metric.title}")
        if title != self.border_title:
            self.border_title = title
        if not self.has_class("-low"):
            n_rows = max(LEAST_SPARKLINES, int(self.size.height * SPARKLINES_SHARE))
            self.query_one(Sparklines).show_rows(sparkline_rows(metrics, state.step), self.metric, n_rows)
        self.set_class(bool(view.overlaid), "-overlaid")
        view.draw(self.query_one(Chart), state, view.scale(state))
        self._show_readout(view)
        self.hints = hints_for(state, bool(self.marked_steps.until(state)))
        self.show_hints()
        n_lines = MORE_LINES if self.size.height >= LEAST_HEIGHT_FOR_MORE else MORE_LINES - 1
        more = more_text(state, n_lines * self.size.width)
        self.query_one("#more").display = bool(more)
        self.put("#more", more, layout=True)
        best = best_text(state)
        self.query_one("#best").display = bool(best)
        self.put("#best", best)

    def _view(self, metrics: Sequence[Metric]) -> ChartView:
        metric = next((metric for metric in metrics if metric.key == self.metric), metrics[0])
        y_axis = self._y_axes.of(metric.key)
        smoothing = SMOOTHING[self.smoothing]
        return ChartView(metric, self.axis, y_axis, smoothing, self.overlays, self.floor, self.backdrop)

    def _show_readout(self, view: ChartView | None = None) -> None:
        """Show the values at the cursor with the changes there, or the legend if there is no cursor."""
        state = self._state
        if state is None:
            return
        self._requested = state.requested.changes
        chart = self.query_one(Chart)
        view = view or self._view(shown_metrics(state, self.backdrop))
        width = self.size.width - len(requested_text(state))
        scale = view.scale(state)
        own_place = None if self.cursor is None else scale.at(state.progress, self.cursor)
        place = chart.pointed_x if chart.pointed_x is not None else own_place
        if place is None:
            chart.set_cursor(None)
            text = legend(view, state, width)
            self.put("#readout", after_requested(text, state), layout=bool(view.overlaid))
            return
        step = self.cursor
        if chart.pointed_x is not None or step is None:
            pointed_step = scale.step_at(state.progress, place)
            point = nearest(view.metric.series.points, pointed_step)
            step = pointed_step if point is None else point[0]
        first, last = (scale.step_at(state.progress, edge) for edge in chart.plot.edges(place))
        changes = merge_changes(state.changes, drop_undone=False)
        near = [change for change in changes if min(first, step) <= change.step <= max(last, step)]
        notes = self.marked_steps.notes(state, self.cursor)
        chart.set_cursor(own_place, [*notes, *(change_text(change) for change in near)])
        self.put(
            "#readout",
            after_requested(values_at(view, state, step, width), state),
        )

    # Keys and mouse

    def action_y_axis(self) -> None:
        """Draw from the lowest value shown, from zero, or with a logarithmic axis."""
        self._y_axes.next(self.metric)
        self.redraw()

    def action_metric(self, by: int) -> None:
        """Draw the next metric, or the previous one; after the last one comes the first."""
        if self._state is not None:
            keys = [metric.key for metric in shown_metrics(self._state, self.backdrop)]
            place = keys.index(self.metric) if self.metric in keys else 0
            self.show_metric(keys[(place + by) % len(keys)])

    def show_metric(self, key: str) -> None:
        """Draw another metric; the cursor goes to its point nearest to where it was."""
        self.metric = key
        if self._state is not None and self.cursor is not None:
            point = nearest(self._view(shown_metrics(self._state, self.backdrop)).metric.series.points, self.cursor)
            self.cursor = None if point is None else point[0]
        self.redraw()

    def on_sparklines_chosen(self, message: Sparklines.Chosen) -> None:
        message.stop()
        self.show_metric(message.key)

    def action_smooth(self) -> None:
        self.smoothing = (self.smoothing + 1) % len(SMOOTHING)
        self.redraw()

    def action_x_axis(self) -> None:
        """Plot over steps, over training time, or over tokens."""
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self.query_one(Chart).action_show_all()
        self.redraw()

    def action_cursor(self, by: int) -> None:
        """Move the cursor to the nearest point one column away, or to the next point; it starts at the latest step."""
        if self._state is None:
            return
        view = self._view(shown_metrics(self._state, self.backdrop))
        points = view.metric.series.points
        chart = self.query_one(Chart)
        scale = view.scale(self._state)
        step = scale.step_at(self._state.progress, chart.moved_cursor(by))
        point = nearest(points, step)
        if point is None:
            return
        if self.cursor is not None and (point[0] - self.cursor) * by <= 0:
            beyond = [other for other in points if (other[0] - self.cursor) * by > 0]
            point = (beyond[0] if by > 0 else beyond[-1]) if beyond else point
        self.cursor = point[0]
        self._show_readout()

    def action_remove_cursor(self) -> None:
        if self.cursor is None:
            raise SkipAction
        self.cursor = None
        self._show_readout()

    async def action_spike(self, by: int) -> None:
        """Move the cursor to the next or previous spike or row that stood out; without one, to the latest spike."""
        state = self._state
        step = None if state is None else await self.marked_steps.next(state, self.cursor, by)
        if not self.is_attached:  # The app was closed meanwhile.
            return
        if state is None or step is None:
            self.notify(NO_MARK)
            return
        self.cursor = step
        scale = self._view(shown_metrics(state, self.backdrop)).scale(state)
        self.query_one(Chart).bring_into_view(scale.at(state.progress, step))
        self.redraw()

    def action_rows(self) -> None:
        """Show the rows of the step at the cursor; without one, those of the latest spike or else the last step."""
        state = self._state
        if state is None:
            return
        latest = state.spikes.until(state.step)[-1:]
        step = state.step if not latest else latest[0].step
        self._show_rows(step if self.cursor is None else round(self.cursor))

    @on(Chart.RangeChosen)
    @on(Chart.Pointed)
    def _follow_chart(self, message: Chart.RangeChosen | Chart.Pointed) -> None:
        message.stop()
        self._show_readout()
        self.show_hints()

    def on_chart_clicked(self, message: Chart.Clicked) -> None:
        message.stop()
        if self._state is not None:
            view = self._view(shown_metrics(self._state, self.backdrop))
            step = view.scale(self._state).step_at(self._state.progress, message.x)
            point = nearest(view.metric.series.points, step)
            self.cursor = None if point is None else point[0]
            self._show_readout()

    def action_overlay(self) -> None:
        """Pick runs of the same task whose curves are shown too."""
        state = self._state
        if state is None or state.ready is None or state.config is None:
            return
        rows = runs_of_same_task(state.config, Path(state.ready.path))
        if not rows:
            self.notify("There is no other run of this task yet.")
            return
        shown = [overlay.path for overlay in self.overlays]
        self.app.push_screen(PickRuns(rows, shown, len(LETTERS)), self._overlay)

    def _overlay(self, paths: list[Path] | None) -> None:
        """Show the curves of the runs in these folders, and of no others; None: no change."""
        if paths is not None:
            self.overlays, problems = chosen_overlays(paths, self.overlays)
            for problem in problems:
                self.notify(problem, severity="warning")
            self.redraw()


def is_from_ln_v(state: LabState, backdrop: Backdrop) -> bool:
    """Return whether the question is how far the loss comes from ln V: in a lesson, and with planted faults."""
    config = state.trainer_config
    return backdrop.from_zero or (config is not None and bool(config.faults))


def hints_for(state: LabState, has_marked_steps: bool) -> Sequence[str]:
    """Return the keys that do something now: there may be no spikes, and the rows of a script are not recorded."""
    without = {"Enter rows"} if state.is_script else set()
    if not has_marked_steps:
        without.add("n N spike")
    return [hint for hint in HINTS if hint not in without]
