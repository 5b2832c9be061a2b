"""The loss curves of runs that lie on disk, read once as long as their record stays the same."""

from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.session.series import extremes
from tui_lab.core.runs.curves import curves
from tui_lab.core.runs.folder import EVENTS, Run
from tui_lab.util.errors import RunError

POINTS = 1000
"""Of a curve, about: more than a terminal has columns."""
Line = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curves:
    """(update, nats a target): the running train loss, and the validation loss."""

    train: Line = ()
    val: Line = ()
    problem: str = ""


class CurveFile:
    """Remembers what it has read; used by one thread at a time."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[object, Curves]] = {}

    def read(self, path: Path) -> Curves:
        """A run's curves; where they cannot be read, the problem in words."""
        try:
            found = (path / EVENTS).stat()
            stamp: object = (found.st_mtime_ns, found.st_size)
        except OSError as error:
            return Curves(problem=f"{path.name}: {error.strerror}")
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = (stamp, _read(Run(path)))
        return known[1]


def _read(run: Run) -> Curves:
    try:
        events = run.downsampled().events()
    except (RunError, OSError) as error:
        return Curves(problem=str(error))
    found = curves(events)
    train, val = (list(zip(*points, strict=True)) for points in (found.running, found.validation))
    return Curves(tuple(extremes(train, POINTS // 2)), tuple(extremes(val, POINTS // 2)))
