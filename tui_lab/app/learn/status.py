"""What the bar of a lesson says while the student waits."""

from typing import TYPE_CHECKING

from tui_lab.app.learn.trials import Trials
from tui_lab.app.panes.loss_text import share_of_way
from tui_lab.runs.numbers import short_number

if TYPE_CHECKING:
    from tui_lab.app.session.state import LabState


def trials_status(trials: Trials) -> str:
    """Return which trial trains, and how far it is."""
    if trials.error:
        return f"a trial failed: {trials.error}"
    running = trials.running
    if running is None:
        return "starts…"
    number = trials.trials.index(running) + 1
    steps = running.config.train.steps
    return f"{number} of {len(trials.trials)}: {running.label}, step {running.state.step}/{steps}"


def run_status(state: "LabState") -> str:
    """Return where a run is: its step, its loss, and how far that is on the way from ln V to zero."""
    steps = 0 if state.config is None else state.config.train.steps
    parts = [f"step {state.step:,}/{steps:,}" if steps else f"step {state.step:,}"]
    loss = state.curves["loss"].last
    if loss is not None:
        parts.append(f"loss {short_number(loss)}")
        if (share := share_of_way(state)) is not None:
            parts.append(f"{share:.0%} of the way to 0")
    return " · ".join(parts)
