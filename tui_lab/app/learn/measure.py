"""What the app knows of a run, as the lessons' checks take it."""

from pathlib import Path

from tui_lab.app.session.state import LabState
from tui_lab.core.lessons.facts import Measurements


def measurements(state: LabState) -> Measurements:
    """Return what is measured of a run until now; the exact match only of the latest evaluation."""
    losses = state.curves["loss"].points
    latest = state.evaluated
    evaluations: list[tuple[int, float, float | None]] = [
        (int(step), value, None)
        for step, value in state.curves["val_loss"].points
        if latest is None or step != latest.step
    ]
    if latest is not None:
        evaluations.append((latest.step, latest.val_loss, latest.exact_match))
    return Measurements(
        steps=[step for step, _ in losses],
        losses=[loss for _, loss in losses],
        evaluations=evaluations,
        n_vocab=0 if state.started is None else state.started.n_vocab,
        ended=state.over,
    )


class CurrentMeasurements:
    """The measurements of the current run, made again only when it has gone on: a tick asks for them."""

    def __init__(self) -> None:
        self._latest: tuple[object, Measurements] | None = None

    def of(self, state: LabState, run_name: str) -> Measurements | None:
        """Return what is measured of the run with this name; None before it has started, or if it is not shown."""
        if state.ready is None or state.started is None or Path(state.ready.path).name != run_name:
            return None
        key = (state.step, state.over, state.evaluated, state.ready.path)
        if self._latest is None or self._latest[0] != key:
            self._latest = key, measurements(state)
        return self._latest[1]
