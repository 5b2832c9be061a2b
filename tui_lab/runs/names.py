"""Names of runs and of states, as the app, the command line and the reports show them."""

from tui_lab.core import events as ev
from tui_lab.util.escape import printable

STATES = {
    "target": "reached the target loss",
    "patience": "stopped early (no improvement)",
    "no-steps": "ended without a step",
}
"""States that are not shown as they are."""

WORD = 6
"""A shortened name is cut between words if there is a boundary so near, in characters."""


def state_name(state: str) -> str:
    """Return how the state of a run, which is the reason why it ended, is written in a sentence."""
    return STATES.get(state, state)


def end_name(event: ev.Stopped) -> str:
    """Return how a run ended, from the event that says so."""
    return state_name("no-steps" if ev.is_without_steps(event.reason, has_steps=event.step > 0) else event.reason)


def row_name(row: int, n_rows: int) -> str:
    """Return how a row of a batch is written for people, who count from 1. row: from 0, as in JSON."""
    return f"row {row + 1:,} of {n_rows:,}"


def short_name(name: str, width: int) -> str:
    """Return a name shortened in its middle to `width` columns. Of a sweep's trial, the trial's own name stays whole.

    Its end has the values of the trial, and that of a fork its time.
    """
    name = printable(name)
    if len(name) <= width:
        return name
    folder, _, trial = name.rpartition("/")
    if folder and len(trial) <= width - 6:
        return f"{folder[: width - len(trial) - 2]}…/{trial}"
    name = trial if folder else name
    if len(name) <= width:
        return name
    end = (width - 1) // 2
    boundary = name.find("-", len(name) - end - WORD, len(name) - end + WORD)
    if boundary > 0:
        end = len(name) - boundary - 1
    return f"{name[: width - 1 - end]}…{name[len(name) - end :]}"


def short_text(text: str, width: int) -> str:
    """Return a sentence in one line of at most `width` characters, without what does not fit at its end."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"
