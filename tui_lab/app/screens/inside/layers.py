"""The view of layers over time: gradient norm, update-to-weight ratio and dead units, a sparkline for each layer."""

import math
from typing import Any

import numpy as np
from rich.cells import set_cell_size
from rich.segment import Segment
from rich.text import Text

from tui_lab.app.screens.inside.view import InsideView, Lines
from tui_lab.app.session.layer_curves import LayerCurves
from tui_lab.app.session.series import Points
from tui_lab.app.widgets.attention_grid import part_around
from tui_lab.app.widgets.heatmap import Ramp, style
from tui_lab.app.widgets.sparklines import ASCII_LEVELS, LEVELS, resampled
from tui_lab.runs.inside_text import MEASUREMENTS, layer_titles, number_in_five

WHAT_IT_MEANS = {
    "grad_norm": "before clipping; shrinks or grows by layer: vanishing or exploding",
    "update_ratio": "‖Δw‖ / ‖w‖ of the matrices; about 1e-3 is healthy for Adam",
    "dead_units": "fraction of ReLUs that are zero for every token of the batch",
}
NO_LAYERS_YET = (
    "no measurements by layer yet: they come every 50 steps. A model whose layers are not in a numbered list has none, "
    "and neither have runs of earlier versions."
)
RANGE = 18
VALUE = 7


class LayersView(InsideView):
    """All lines of a measurement on the same scale, logarithmic but for dead units, or each on a scale of its own."""

    title = "Layers"
    measures = ("lines of a measurement on one scale, logarithmic but for dead units", "each line on its own scale")

    def __init__(self, curves: LayerCurves) -> None:
        super().__init__()
        self.curves = curves
        self._levels = LEVELS

    def take(self, result: Any, example: Any) -> None:
        """Nothing: the curves come with the events of the run."""

    @property
    def has_result(self) -> bool:
        return bool(self.lines())

    def use_ascii(self) -> None:
        self._levels = ASCII_LEVELS

    def lines(self) -> list[tuple[str, str, Points]]:
        """Return the measurement, the title of the layer and the points of every line."""
        of_run = self.curves.curves
        names = [
            *(name for name in MEASUREMENTS if name in of_run),
            *(name for name in of_run if name not in MEASUREMENTS),
        ]
        return [
            (name, title, series.points)
            for name in names
            for title, series in zip(layer_titles(list(of_run[name])), of_run[name].values(), strict=True)
            if series.points
        ]

    def summary(self) -> Text:
        lines = self.lines()
        if not lines:
            return Text(NO_LAYERS_YET)
        latest: dict[str, tuple[str, float]] = {}
        for name, layer, points in lines:
            value = points[-1][1]
            if name not in latest or value > latest[name][1]:
                latest[name] = (layer, value)
        parts = [f"{MEASUREMENTS.get(k, k)} {number_in_five(v)} in {layer}" for k, (layer, v) in latest.items()]
        return Text(f"largest at step {self.curves.step:,}: {', '.join(parts)}")

    def draw(self, ramp: Ramp, width: int, height: int) -> Lines:
        lines = self.lines()
        if not lines:
            return []
        self.cursor = (max(0, min(self.cursor[0], len(lines) - 1)), 0)
        drawn: Lines = []
        chosen_at = 0
        for number_of_line, (name, layer, points) in enumerate(lines):
            if number_of_line == 0 or lines[number_of_line - 1][0] != name:
                title, meaning = MEASUREMENTS.get(name, name), WHAT_IT_MEANS.get(name, "")
                fits = len(title) + 2 + len(meaning) <= width
                drawn.append([Segment(title, style(bold=True)), Segment(f": {meaning}" if fits else "")])
            chosen = number_of_line == self.cursor[0]
            chosen_at = len(drawn) if chosen else chosen_at
            drawn.append(self._line(name, layer, points, width, chosen=chosen))
        part = part_around(chosen_at, len(drawn), height)
        return drawn[part.first : part.first + part.shown]

    def _line(self, name: str, layer: str, points: Points, width: int, *, chosen: bool) -> list[Segment]:
        title_width = 2 + max(len(each) for _, each, _ in self.lines())
        values = [value for _, value in points]
        extent = f"{number_in_five(min(values))}…{number_in_five(max(values))}"
        n_columns = max(1, width - title_width - RANGE - VALUE - 4)
        title = set_cell_size(f"  {layer}", title_width)
        return [
            Segment(title, style(bold=chosen, reverse=chosen)),
            Segment("  "),
            Segment(self._spark(name, points, n_columns), style()),
            Segment(f"{extent:>{RANGE}}{number_in_five(values[-1]):>{VALUE}}", style()),
        ]

    def _spark(self, name: str, points: Points, n_columns: int) -> str:
        """Return one character a column, of the highest value there."""
        curves = [each for measurement, _, each in self.lines() if measurement == name]
        first = min(each[0][0] for each in curves)
        last = max(each[-1][0] for each in curves)
        values = resampled(np.array(points, dtype=float), n_columns, first, last)
        scale = np.array([value for _, value in points])
        if self.measure == 0:
            scale = np.array([value for each in curves for _, value in each])
        if self.measure == 0 and name != "dead_units":
            least = min((value for value in scale if value > 0), default=1.0)
            values = np.log10(np.maximum(values, least))
            scale = np.log10(np.maximum(scale, least))
        low, high = float(scale.min()), float(scale.max())
        heights = (values - low) / ((high - low) or 1.0) * (len(self._levels) - 1)
        return "".join(" " if math.isnan(height) else self._levels[round(height)] for height in heights)

    def selection(self) -> Text:
        lines = self.lines()
        if not lines:
            return Text()
        name, layer, points = lines[min(self.cursor[0], len(lines) - 1)]
        step, value = points[-1]
        least, most = (choose(points, key=lambda point: point[1]) for choose in (min, max))
        text = Text.assemble((f"{layer}, {MEASUREMENTS.get(name, name)}: ", "bold"), f"{value:.3g} at step {step:,}; ")
        text.append(f"least {least[1]:.3g} at {least[0]:,}, most {most[1]:.3g} at {most[0]:,}")
        return text.append(f"\n{WHAT_IT_MEANS.get(name, '')}")

    def move(self, down: int, right: int) -> None:
        self.cursor = (max(0, min(self.cursor[0] + down, len(self.lines()) - 1)), 0)

    def move_to_end(self, *, last: bool) -> None:
        self.cursor = (len(self.lines()) - 1 if last else 0, 0)

    def click(self, x: int, y: int) -> None:
        """Nothing: lines are selected by keys."""

    def part_shown(self) -> str:
        return ""
