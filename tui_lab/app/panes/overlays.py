"""The loss curves of earlier runs, shown over the current one."""

from dataclasses import dataclass

from tui_lab.app.session.series import Points, Series
from tui_lab.core.runs.folder import Run

OVERLAY_STYLES = ("magenta", "blue", "red")


@dataclass(frozen=True)
class Overlay:
    """The loss curve of an earlier run. points: step and loss in nats."""

    name: str
    points: Points


def read_overlay(run: Run) -> Overlay:
    """Return the running mean of a run's train loss. Raises RunError."""
    series = Series()
    for event in run.downsampled().events():
        if event.kind == "step":
            series.add(event.step, getattr(event, "loss_ema", None))
    return Overlay(run.name, series.points)
