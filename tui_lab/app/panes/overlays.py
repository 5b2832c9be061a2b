"""The loss curves of earlier runs, shown over the current one."""

from dataclasses import dataclass

from tui_lab.app.session.progress import Progress
from tui_lab.app.session.series import Points, Series
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run

OVERLAY_STYLES = ("magenta", "blue", "red")


@dataclass(frozen=True)
class Overlay:
    """The loss curve of an earlier run. points: step and loss in nats; progress: its time and tokens at each step."""

    name: str
    points: Points
    progress: Progress


def read_overlay(run: Run) -> Overlay:
    """Return the running mean of a run's train loss. Raises RunError."""
    series = Series()
    progress = Progress()
    for event in run.downsampled().events():
        if isinstance(event, ev.StepDone):
            series.add(event.step, event.loss_ema)
            progress.add(event)
    return Overlay(run.name, series.points, progress)
