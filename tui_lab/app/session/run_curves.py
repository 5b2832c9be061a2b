"""The loss curves of saved runs, read again only when the event log has changed."""

from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.app.session.series import extremes
from tui_lab.core.events import Changed
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.curves import curves
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.run_files import EVENTS
from tui_lab.core.runs.summary import Summary, summarize_log
from tui_lab.util.errors import RunError

POINTS = 1000
"""Points of a curve; more than a terminal has columns."""
ROW_VALUES = ("steps", "train_loss", "val_loss", "best_val_loss", "best_step")
"""Of a summary and a row."""
Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class LossCurves:
    """(step, nats per target): the running train loss and the validation loss; or the reason why there are none.

    changes: the live changes of the run. summary: of the same events, so that a table shows the values of the curves.
    """

    train: Line = ()
    val: Line = ()
    problem: str = ""
    changes: tuple[Changed, ...] = ()
    summary: Summary | None = None

    def row_at_end(self, row: RunRow) -> RunRow:
        """Return the row of a run in training with the values at the end of its curves, which are read after it."""
        if self.summary is None or row.state != "running":
            return row
        metric = row.metric if row.metric_name is None else self.summary.metric(row.metric_name)
        values = {name: getattr(self.summary, name) for name in ROW_VALUES}
        return replace(row, metric=metric, changes=self.changes, **values)


class CurveFile:
    """Read curves and remember them; for use by one thread at a time."""

    def __init__(self) -> None:
        self._cache: dict[Path, tuple[object, LossCurves]] = {}

    def read(self, path: Path) -> LossCurves:
        """Return the curves of the run in folder `path`."""
        try:
            status = (path / EVENTS).stat()
        except OSError as error:
            return LossCurves(problem=f"{path.name}: {error.strerror}")
        stamp = (status.st_mtime_ns, status.st_size)
        cached = self._cache.get(path)
        if cached is None or cached[0] != stamp:
            cached = self._cache[path] = (stamp, _read(Run(path)))
        return cached[1]


def _read(run: Run) -> LossCurves:
    try:
        log = run.downsampled()
    except (RunError, OSError) as error:
        return LossCurves(problem=str(error))
    loss_curves = curves(log.events())
    train = list(zip(*loss_curves.running, strict=True))
    val = list(zip(*loss_curves.validation, strict=True))
    return LossCurves(
        tuple(extremes(train, POINTS // 2)),
        tuple(extremes(val, POINTS // 2)),
        changes=loss_curves.changes,
        summary=summarize_log(log).summary(str(run.path)),
    )
