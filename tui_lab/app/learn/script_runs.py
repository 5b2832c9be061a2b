"""Wait for the run of a script that the student starts in another terminal."""

import time
from collections.abc import Callable
from pathlib import Path

from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import LabError

SECONDS_BETWEEN_LOOKS = 1.0


class ScriptRuns:
    """Call `poll` at every tick. clock: monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known = {run.path for run in runs.list_runs()}
        self._next_look = 0.0

    def poll(self) -> Path | None:
        """Return the folder of a new run of a script, once there is one."""
        if self._clock() < self._next_look:
            return None
        self._next_look = self._clock() + SECONDS_BETWEEN_LOOKS
        for run in runs.list_runs():
            if run.path in self._known:
                continue
            try:
                if isinstance(run.config(), ScriptConfig):
                    return run.path.absolute()
            except LabError:
                continue  # Its config is being written.
            self._known.add(run.path)
        return None
