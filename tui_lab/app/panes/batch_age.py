"""The age of the batch that is shown, as text that does not change at every step of a run."""

from tui_lab.app.session.state import LabState
from tui_lab.util.plural import counted

SECONDS_BETWEEN_BATCHES = 1.0
"""While the model trains: batches then change faster than one can read."""
LONGEST_RECENT = 20.0
"""Seconds of training after which a batch is not recent any more: longer than one is kept to be read."""
ROUNDED_FROM = 10
"""Steps from which on an age that grows is rounded."""


def age_text(age: int, state: LabState, *, following: bool) -> str:
    """Return how old a batch is that was trained on `age` steps ago; empty for the latest one.

    following: whether newer batches replace it while the model trains. Of a model that makes several steps between
    them, a number would change all the time.
    """
    trains = state.phase == "running"
    if trains and following and _is_recent(age, state.step_time.seconds):
        return "recent"
    if age <= 0:
        return ""
    if trains and age >= ROUNDED_FROM:
        return f"about {int(float(f'{age:.0e}')):,} steps ago"
    return f"{counted(age, 'step')} ago"


def _is_recent(age: int, seconds_a_step: float | None) -> bool:
    """Return whether that was a moment ago, in a run that makes several steps between two batches."""
    if seconds_a_step is None or seconds_a_step >= SECONDS_BETWEEN_BATCHES:
        return False
    return 0 <= age * seconds_a_step <= LONGEST_RECENT
