"""The steps that the keys for spikes go to: the spikes, or where there are none, steps with a row that stood out."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from tui_lab.app.session.state import LabState
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import RunError

NO_SPIKE = "There is no spike of the loss so far; ? says which losses count as one."
MOST_ROWS = 10
"""Rows that stood out, whose steps are gone to."""


async def next_marked_step(state: LabState, cursor: float | None, by: int) -> tuple[int | None, str]:
    """Return the step that the cursor goes to, None if there is none, and what to say about it."""
    if spikes := state.spikes.until(state.step):
        return next_step([spike.step for spike in spikes], cursor, by), ""
    if state.ready is None or state.is_script:
        return None, NO_SPIKE
    try:
        steps = await asyncio.to_thread(steps_of_outliers, Run(Path(state.ready.path)))
    except (RunError, OSError):
        return None, NO_SPIKE
    reached = [step for step in steps if step <= state.step]
    if not reached:
        return None, NO_SPIKE
    return next_step(reached, cursor, by), f"{NO_SPIKE} But a row of this step stood out: Enter shows it."


def steps_of_outliers(run: Run) -> list[int]:
    """Return the steps of the rows of a run that stood out most. Raises RunError or OSError."""
    from tui_lab.core.runs.explain import outlier_steps

    return outlier_steps(run, MOST_ROWS)


def next_step(steps: Sequence[int], cursor: float | None, by: int) -> int:
    """Return the first of `steps` after the cursor, or the last before it if `by` is -1.

    It goes around at the ends. Without a cursor it is the last one.
    """
    beyond = [step for step in steps if cursor is not None and (step - cursor) * by > 0]
    if cursor is None or (by < 0 and not beyond):
        return steps[-1]
    return steps[0] if not beyond else beyond[0] if by > 0 else beyond[-1]
