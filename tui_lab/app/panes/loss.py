"""The loss pane: the loss curves of a run, and a sparkline for each metric."""

import math
from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.panes.loss_text import Scale, best_text, changes_text, merge_changes, more_text, scale_of, value_at
from tui_lab.app.panes.metrics import Metric, metrics_of
from tui_lab.app.panes.overlays import OVERLAY_STYLES, Overlay, read_overlay
from tui_lab.app.panes.pane import Pane
from tui_lab.app.session.progress import AXES, Axis
from tui_lab.app.session.series import extremes, smooth
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import Chart, Curve, Dot, has_braille
from tui_lab.app.widgets.sparklines import Row, Sparklines
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable

METRICS_AT_CURSOR = ("loss", "val_loss", "lr", "grad_norm")
MORE_LINES = 3
"""Lines for further measurements, at most, as in lab.tcss."""
SMOOTHING = (0.0, 0.6, 0.9, 0.98)
LEAST_HEIGHT_FOR_SPARKLINES = 16
LEAST_HEIGHT_FOR_MORE = 19
"""For all lines of further measurements; one less is shown below it."""
LEAST_SPARKLINES = 6
SPARKLINES_SHARE = 0.3
"""Of the height of the pane, for the sparklines, if that is more than the least number."""
CURSOR_STEPS = 50
"""Key presses that move the cursor over the whole run."""


class LossPane(Pane):
    number = 2
    title = "Loss"
    help_name = "loss"
    main = "#chart"
    hints: Sequence[str] = (
        "[ ] metric", "←→ read values", "Y log", "x axis", "m smooth", "a overlay a run", "+ - zoom", "0 all"
    )  # fmt: skip

    BINDINGS = named(
        "loss",
        Binding("Y", "log", "Log axis", show=False),
        Binding("m", "smooth", "Smoothing", show=False),
        Binding("x", "x_axis", "Horizontal axis", show=False),
        Binding("a", "overlay", "Overlay a run", show=False),
        Binding("left_square_bracket", "metric(-1)", "Previous metric", show=False),
        Binding("right_square_bracket", "metric(1)", "Next metric", show=False),
        Binding("left,h", "cursor(-1)", "Cursor left", show=False),
        Binding("right,l", "cursor(1)", "Cursor right", show=False),
    )

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.log_axis = False
        self.smoothing = 0
        """Index into `SMOOTHING`."""
        self.axis: Axis = "step"
        self.metric = "loss"
        """The key of the metric in the chart."""
        self.cursor: float | None = None
        """The step whose values are shown."""
        self.overlays: list[Overlay] = []
        self.floor: float | None = None
        """The lowest loss that a bug found by the doctor allows."""
        self._scale_name = ""
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
            state.step, state.phase, len(state.changes), state.evaluated, state.restored, self.size, self.floor, logged,
        )  # fmt: skip
        if drawn != self._drawn:
            self._drawn = drawn
            self.redraw()

    def rewound(self) -> None:
        self.cursor = None
        self._drawn = None
        self._drawn_at = float("-inf")

    @property
    def last_step(self) -> int:
        """The latest step of the curves that are drawn."""
        return 0 if self._state is None else self._state.step

    @property
    def state_text(self) -> str:
        parts = [] if self.axis == "step" else [f"x: {self._scale_name}"]
        parts.append("log" if self.log_axis else "linear")
        if weight := SMOOTHING[self.smoothing]:
            parts.append(f"smoothed {weight}")
        return ", ".join(parts)

    def copied(self) -> str:
        """Return the values at the cursor, or the run's path."""
        if self._state is None or self._state.ready is None:
            return ""
        return self._state.ready.path if self.cursor is None else str(self.query_one("#readout", Static).content)

    def redraw(self) -> None:
        state = self._state
        if state is None:
            return
        metrics = metrics_of(state)
        metric = next((metric for metric in metrics if metric.key == self.metric), metrics[0])
        title = f"{self.number} {self.title}" + ("" if metric.key == "loss" else f" · {metric.title}")
        if title != self.border_title:
            self.border_title = title
        if not self.has_class("-low"):
            self._draw_sparklines(metrics)
        scale = self._scale(state)
        self._scale_name = scale.name
        self._draw_chart(state, scale, metric)
        self.put("#readout", self._readout(state, metric))
        self.show_hints()
        n_lines = MORE_LINES if self.size.height >= LEAST_HEIGHT_FOR_MORE else MORE_LINES - 1
        more = more_text(state, n_lines * self.size.width)
        self.query_one("#more").display = bool(more)
        self.put("#more", more, layout=True)
        best = best_text(state)
        self.query_one("#best").display = bool(best)
        self.put("#best", best)

    def _draw_sparklines(self, metrics: Sequence[Metric]) -> None:
        n_lines = max(LEAST_SPARKLINES, int(self.size.height * SPARKLINES_SHARE))
        rows = [Row(metric.key, metric.title, metric.series.points) for metric in metrics]
        self.query_one(Sparklines).show_rows(rows, self.metric, n_lines)

    def _scale(self, state: LabState) -> Scale:
        """Return the unit of the horizontal axis, which suits the longest curve."""
        progresses = [state.progress, *(overlay.progress for overlay in self.overlays)]
        return scale_of(self.axis, state.unit, max(progress.at(self.axis, math.inf) for progress in progresses))

    def _curves(self, state: LabState, scale: Scale, metric: Metric) -> list[Curve]:
        columns = max(20, self.query_one(Chart).size.width - 12)
        weight = SMOOTHING[self.smoothing]
        points = metric.series.points
        if weight and metric.key != "val_loss":
            points = smooth(points, weight)
        shown = scale.placed(state.progress, extremes(points, columns))
        if metric.key == "val_loss":
            return [Curve("validation", shown, "yellow", dotted=True)]
        if metric.key != "loss":
            return [Curve(metric.title, shown, "cyan")]
        return [
            *(
                Curve(overlay.name, scale.placed(overlay.progress, extremes(overlay.points, columns)), style)
                for overlay, style in zip(self.overlays, OVERLAY_STYLES, strict=False)
            ),
            Curve("train", shown, "cyan"),
            Curve("validation", scale.placed(state.progress, state.curves["val_loss"].points), "yellow", dotted=True),
        ]

    def _draw_chart(self, state: LabState, scale: Scale, metric: Metric) -> None:
        progress = state.progress
        changed_steps = sorted({change.step for change in merge_changes(state.changes)})
        marks = [(scale.at(progress, step), "green") for step in changed_steps]
        if self.cursor is not None:
            marks.append((scale.at(progress, self.cursor), "white"))
        levels = ((state.chance_loss, "bright_black"), (self.floor, "red"))
        references = [(y, style) for y, style in levels if y is not None and metric.is_loss]
        dots = []
        if state.best is not None and metric.is_loss:
            dots = [Dot(scale.at(progress, state.best.step), state.best.val_loss, "bold yellow")]
        chart = self.query_one(Chart)
        chart.draw(self._curves(state, scale, metric), marks=marks, dots=dots, references=references, log=self.log_axis)

    def _readout(self, state: LabState, metric: Metric) -> Text:
        """Return the values at the cursor, or the legend if there is no cursor."""
        text = Text(no_wrap=True, overflow="ellipsis")
        if self.cursor is None:
            return text.append_text(self._legend(state, metric))
        text.append(f"at step {self.cursor:,.0f}: ", "bold")
        for name in METRICS_AT_CURSOR:
            value = value_at(state.curves[name].points, self.cursor)
            text.append("" if value is None else f"{name} {value:.4g}  ")
        near = [
            change
            for change in merge_changes(state.changes)
            if abs(change.step - self.cursor) <= max(1.0, state.step / 100)
        ]
        return text.append(changes_text(near), "green")

    def _legend(self, state: LabState, metric: Metric) -> Text:
        text = Text.assemble(("— train ", "cyan"), ("o val ", "yellow"))
        if not metric.is_loss:
            text = Text.assemble((f"— {metric.title} {metric.unit} ", "cyan"))
        if state.chance_loss is not None and metric.is_loss:
            text.append(f"┄ ln V {state.chance_loss:.3f} ", "dim")
        if self.floor is not None and metric.is_loss:
            text.append(f"┄ floor {self.floor:.3f} ", "red")
        if changes := merge_changes(state.changes):
            text.append(f"│ {changes_text(changes[-1:])} at {changes[-1].step:,} ", "green")
        for overlay, style in zip(self.overlays if metric.key == "loss" else (), OVERLAY_STYLES, strict=False):
            text.append(f"— {printable(overlay.name)} ", style)
        return text

    def action_log(self) -> None:
        self.log_axis = not self.log_axis
        self.redraw()

    def action_metric(self, by: int) -> None:
        """Draw the next metric, or the previous one; after the last one comes the first."""
        if self._state is not None:
            keys = [metric.key for metric in metrics_of(self._state)]
            place = keys.index(self.metric) if self.metric in keys else 0
            self.show_metric(keys[(place + by) % len(keys)])

    def show_metric(self, key: str) -> None:
        self.metric = key
        self.query_one(Chart).action_reset_scales()
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
        self.query_one(Chart).action_reset_scales()
        self.redraw()

    def action_cursor(self, by: int) -> None:
        """Move the cursor, starting at the latest step; it goes away when moved past that."""
        if self._state is None or not self._state.step:
            return
        latest = self._state.step
        step = (latest + 1 if self.cursor is None else self.cursor) + by * max(1, latest // CURSOR_STEPS)
        self.cursor = None if step > latest else max(1.0, float(step))
        self.redraw()

    def action_overlay(self) -> None:
        """Overlay the newest run that is not shown yet; after the last one, show none."""
        if self._state is None or self._state.ready is None:
            return
        shown = {overlay.name for overlay in self.overlays} | {self._state.ready.name}
        others = [run for run in reversed(runs.list_runs()) if run.name not in shown]
        if not others or len(self.overlays) >= len(OVERLAY_STYLES):
            self.overlays = []
        else:
            try:
                self.overlays.append(read_overlay(others[0]))
            except RunError as error:
                self.notify(str(error), severity="warning")
        self.redraw()
