"""The metrics that the loss pane can draw."""

from collections.abc import Iterable
from dataclasses import dataclass

from tui_lab.app.session.curves import CURVES, LOGGED, RARE_EXTRAS
from tui_lab.app.session.series import Series
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.sparklines import Row
from tui_lab.util.escape import printable

TITLES = {
    "loss": "loss",
    "val_loss": "val loss",
    "grad_norm": "grad norm",
    "lr": "lr in use",
    "update_ratio": "Δw / w",
    "memory_mib": "memory",
    "gpu_memory_mib": "GPU memory",
}
LOSSES = ("loss", "val_loss")


@dataclass(frozen=True)
class Metric:
    """key: the name of its curve; unit: that of its values, or ""."""

    key: str
    title: str
    unit: str
    series: Series

    @property
    def is_loss(self) -> bool:
        return self.key in LOSSES


def metrics_of(state: LabState) -> list[Metric]:
    """Return the metrics of a run: those that every run has, then those that were measured or logged."""
    measured = [key for key in RARE_EXTRAS if state.curves[key].points]
    logged = [key for key in state.curves if key.startswith(LOGGED) and state.curves[key].points]
    return [_metric(state, key) for key in (*CURVES, *measured, *logged)]


def _metric(state: LabState, key: str) -> Metric:
    series = state.curves[key]
    if key == "tokens_per_s":
        return Metric(key, f"{state.unit}/s", f"{state.unit}/s", series)
    if key in LOSSES:
        return Metric(key, TITLES[key], "nats" if state.chance_loss is not None else "", series)
    if key in RARE_EXTRAS:
        return Metric(key, TITLES[key], "MiB", series)
    return Metric(key, TITLES.get(key) or printable(key.removeprefix(LOGGED)), "", series)


def sparkline_rows(metrics: Iterable[Metric], step: int) -> list[Row]:
    """Return the rows of the sparklines at `step`; a metric without a value of that step is old."""
    return [
        Row(metric.key, metric.title, points, is_old=bool(points) and points[-1][0] < step)
        for metric in metrics
        for points in (metric.series.points,)
    ]
