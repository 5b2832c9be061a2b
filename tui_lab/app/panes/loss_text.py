"""Texts of the loss pane: the changes of a run, and its lowest validation loss."""

from collections.abc import Iterable

from rich.text import Text

from tui_lab.app.session.series import Points
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev


def merge_changes(changes: Iterable[ev.Changed]) -> list[ev.Changed]:
    """Merge the changes of one key at one step, and drop those that end at the value they began with."""
    merged: dict[tuple[int, str], ev.Changed] = {}
    for change in changes:
        place = (change.step, change.key)
        old = merged[place].old if place in merged else change.old
        merged[place] = ev.Changed(step=change.step, key=change.key, old=old, new=change.new)
    return [change for change in merged.values() if change.old != change.new]


def changes_text(changes: Iterable[ev.Changed]) -> str:
    return "  ".join(f"{change.key} {change.old} → {change.new}" for change in changes)


def best_text(state: LabState) -> Text:
    """Return the lowest validation loss if it is not the latest or the run may stop early; otherwise an empty text."""
    best = state.best
    patience = 0 if state.config is None else state.config.train.patience
    if best is None or not (patience or state.worse):
        return Text()
    suffix = f" (patience {patience})" if patience else ""
    if state.ending == "patience":
        since = f" · stopped {state.step - best.step:,} steps later{suffix}"
    elif state.worse:
        since = f" · no improvement for {state.worse} eval{'s' if state.worse > 1 else ''}{suffix}"
    else:
        since = f" · patience {patience}"
    restored = "" if state.restored is None else " · weights restored"
    title = f"best {best.val_loss:.4g} at step {best.step:,}"
    return Text.assemble(("● ", "yellow"), (title, "bold yellow"), since, restored)


def value_at(points: Points, step: float) -> float | None:
    """Return the value of the point nearest to `step`."""
    return min(points, key=lambda point: abs(point[0] - step))[1] if points else None
