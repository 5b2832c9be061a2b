"""What the app knows of a run, as the lessons' checks take it."""

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
