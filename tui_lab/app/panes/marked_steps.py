"""The steps that the keys for spikes go to: the spikes of the loss, and the steps with a row that stood out."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.app.panes.spike_text import expected_text, outlier_text
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.core.runs.outlier_rows import OutlierIndex, OutlierRow

NO_MARK = "There is no spike of the loss so far, and no row that stood out; ? says which losses count."
MOST_ROWS = 10
"""Rows that stood out, whose steps are gone to."""


class MarkedSteps:
    """The spikes of a run, and the rows that stood out, which are looked for in its folder when they are needed."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._index: OutlierIndex | None = None
        self._rows: dict[int, OutlierRow] = {}
        """Step → the row of it that stood out most."""
        self._reading = asyncio.Lock()

    async def next(self, state: LabState, step: float | None, by: int) -> int | None:
        """Return the marked step after `step`, or before it if `by` is -1; None if there is none.

        For None it is the latest spike, or where there is none, the latest row that stood out.
        """
        if step is None and (spikes := state.spikes.until(state.step)):
            return spikes[-1].step
        await self._read_new(state)
        steps = self.until(state)
        return next_step(steps, step, by) if steps else None

    def until(self, state: LabState) -> list[int]:
        """Return the marked steps that the run has reached, in order, as far as they are known."""
        spikes = {spike.step for spike in state.spikes.until(state.step)}
        return sorted(spikes.union(step for step in self._rows if step <= state.step))

    def notes(self, state: LabState, step: float | None) -> list[str]:
        """Return what marks a step: a spike, and a row that stood out."""
        notes = [f"spike: {expected_text(spike)}" for spike in state.spikes.until(state.step) if spike.step == step]
        row = None if step is None else self._rows.get(round(step))
        return notes if row is None else [*notes, outlier_text(row)]

    async def _read_new(self, state: LabState) -> None:
        """Look for rows that stood out in what the run has recorded since the last time."""
        if state.ready is None or state.is_script:
            return
        async with self._reading:
            folder = Path(state.ready.path)
            if folder != self._folder:
                self._folder = folder
                self._index = None
            self._rows = await asyncio.to_thread(self._read, folder, list(state.changes))

    def _read(self, folder: Path, changes: Sequence[ev.Changed]) -> "dict[int, OutlierRow]":
        from tui_lab.core.runs.outlier_rows import OutlierIndex, first_comparable, strongest

        try:
            if self._index is None:
                self._index = OutlierIndex(Run(folder).row_log())
            rows = self._index.read(first_comparable(changes))
        except (RunError, OSError):  # What is wrong with a damaged log, Enter says.
            return {}
        steps = {row.step for row in strongest(rows)[:MOST_ROWS]}
        highest = sorted((row for row in rows if row.step in steps), key=lambda row: row.excess)
        return {row.step: row for row in highest}


def next_step(steps: Sequence[int], cursor: float | None, by: int) -> int:
    """Return the first of `steps` after the cursor, or the last before it if `by` is -1.

    It goes around at the ends. Without a cursor it is the last one.
    """
    beyond = [step for step in steps if cursor is not None and (step - cursor) * by > 0]
    if cursor is None or (by < 0 and not beyond):
        return steps[-1]
    return steps[0] if not beyond else beyond[0] if by > 0 else beyond[-1]
