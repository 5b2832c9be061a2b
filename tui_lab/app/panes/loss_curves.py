"""What the large chart of the loss pane shows of a run."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_lab.app.panes.loss_text import Scale, scale_of
from tui_lab.app.panes.metrics import Metric, metrics_of
from tui_lab.app.panes.overlays import Overlaid, Overlay, lettered
from tui_lab.app.session.progress import Axis
from tui_lab.app.session.series import smooth
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import Chart, Curve, Dot, Reference, YAxis
from tui_lab.runs.numbers import short_number
from tui_lab.text.plot import MUTED

SMOOTHING = (0.0, 0.6, 0.9, 0.98)
TRAIN = "cyan"
VALIDATION = "yellow"
CHANGE = "green"
GHOST = "bright_black"
GUESS = "bold magenta"
SPIKE = "bold red"
SPIKE_SIGN = "▲"
MOST_SPIKES = 50
"""The newest are marked."""
FARTHEST_GUESS = 1.3
"""Times the highest value of the curves: a guess above it would flatten them."""


@dataclass(frozen=True)
class Guess:
    """A value of a metric that the student expects at a step."""

    metric: str
    step: float
    value: float


@dataclass
class Backdrop:
    """What a lesson puts into the chart: earlier runs in gray, and guesses.

    from_zero: whether runs begin with a y axis from zero. hides_references: whether the lines of reference, such as
    ln V, would answer a question that is still open. hides_validation: whether the validation loss, which is measured
    only at the end, is left out.
    """

    ghosts: Sequence[Overlay] = ()
    guesses: Sequence[Guess] = ()
    from_zero: bool = False
    hides_references: bool = False
    hides_validation: bool = False


def shown_metrics(state: LabState, backdrop: Backdrop) -> list[Metric]:
    """Return the metrics of a run, without those that a lesson hides."""
    return [metric for metric in metrics_of(state) if metric.key != "val_loss" or not backdrop.hides_validation]


@dataclass(frozen=True)
class ChartView:
    """The choices of the user: smoothing is a weight, floor the lowest loss that a bug found by the doctor allows."""

    metric: Metric
    axis: Axis
    y_axis: YAxis
    smoothing: float
    overlays: Sequence[Overlay]
    floor: float | None
    backdrop: Backdrop = field(default_factory=Backdrop)

    @property
    def overlaid(self) -> list[Overlaid]:
        """The overlays that have points of the metric, with their letters."""
        return [one for one in lettered(self.overlays) if one.overlay.points(self.metric.key)]

    def scale(self, state: LabState) -> Scale:
        """Return the unit of the horizontal axis, which suits the longest curve."""
        others = (*self.overlays, *self.backdrop.ghosts)
        progresses = [state.progress, *(overlay.progress for overlay in others)]
        return scale_of(self.axis, state.unit, max(progress.at(self.axis, math.inf) for progress in progresses))

    def draw(self, chart: Chart, state: LabState, scale: Scale) -> None:
        """Draw the metric; a loss with its lines of reference and its lowest value."""
        progress = state.progress
        changed_steps = sorted({change.step for change in state.changes})
        options: dict[str, Any] = {}
        dots = [self._end(one, scale) for one in self.overlaid]
        curves = self._curves(state, scale)
        dots += self._guesses(state, scale, curves)
        if self.metric.key == "loss":
            spikes = state.spikes.until(state.step)[-MOST_SPIKES:]
            dots += [Dot(scale.at(progress, each.step), each.loss, SPIKE, sign=SPIKE_SIGN) for each in spikes]
        if self.metric.is_loss:
            options["references"] = self._references(state)
            if state.best is not None and not self.backdrop.hides_validation:
                dots.append(Dot(scale.at(progress, state.best.step), state.best.val_loss, f"bold {VALIDATION}"))
        chart.draw(
            curves,
            dots=dots,
            marks=[(scale.at(progress, step), CHANGE) for step in changed_steps],
            y_axis=self.y_axis,
            x_unit=scale.name,
            y_unit=self.metric.unit,
            whole=self.axis == "step",
            **options,
        )

    def _guesses(self, state: LabState, scale: Scale, curves: Sequence[Curve]) -> Iterator[Dot]:
        """Yield a sign for each guess; one far from all curves is at the edge, with its value."""
        values = [value for curve in curves for _, value in curve.points if math.isfinite(value)]
        if not values:
            return
        low = min(0.0, *values)
        high = max(state.chance_loss or 0.0, *values)
        for guess in self.backdrop.guesses:
            if guess.metric != self.metric.key:
                continue
            is_far = not low <= guess.value <= FARTHEST_GUESS * high
            value = min(max(guess.value, low), high) if is_far else guess.value
            sign = f"? {short_number(guess.value)}" if is_far else "?"
            yield Dot(scale.at(state.progress, guess.step), value, GUESS, sign=sign)

    def _curves(self, state: LabState, scale: Scale) -> list[Curve]:
        points = self.metric.series.points
        progress = state.progress
        shown = scale.placed(progress, points)
        curves = [
            Curve(ghost.name, scale.placed(ghost.progress, points_of_ghost), GHOST, end="before", background=True)
            for ghost in self.backdrop.ghosts
            if (points_of_ghost := ghost.points(self.metric.key))
        ]
        for one in self.overlaid:
            other = scale.placed(one.overlay.progress, one.overlay.points(self.metric.key))
            end = f"{one.letter} {short_number(other[-1][1])}"
            curves.append(Curve(one.overlay.name, other, one.style, end=end))
        if self.metric.key == "val_loss":
            return [*curves, Curve("val", shown, VALIDATION, dotted=True, end="val" if curves else "")]
        name = "train" if self.metric.key == "loss" else self.metric.title
        end = "train" if self.metric.key == "loss" else "this run" if curves else ""
        if self.smoothing:
            smoothed = scale.placed(progress, smooth(points, self.smoothing))
            curves += [Curve("raw", shown, f"dim {TRAIN}", background=True), Curve(name, smoothed, TRAIN, end=end)]
        else:
            curves.append(Curve(name, shown, TRAIN, end=end))
        if self.metric.key == "loss" and not self.backdrop.hides_validation:
            validation = scale.placed(progress, state.curves["val_loss"].points)
            # A line between a few evaluations must not hide the curve of every step.
            curves.append(Curve("val", validation, VALIDATION, dotted=True, end="val", below=True))
        return curves

    def _end(self, one: Overlaid, scale: Scale) -> Dot:
        """Return the letter of an overlay, at the end of its curve."""
        step, value = one.overlay.points(self.metric.key)[-1]
        return Dot(scale.at(one.overlay.progress, step), value, f"bold {one.style}", sign=one.letter)

    def _references(self, state: LabState) -> list[Reference]:
        references: list[Reference] = []
        if self.backdrop.hides_references:
            return references
        if state.chance_loss is not None:
            references.append(Reference(state.chance_loss, MUTED, f"ln V {short_number(state.chance_loss)}"))
        if self.floor is not None:
            references.append(Reference(self.floor, "red", f"floor {short_number(self.floor)}", required=True))
        return references
