"""Wait for the run of a script that the student starts in another terminal."""

import time
from collections.abc import Callable
from pathlib import Path

from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.lessons.progress import Progress
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.util.errors import LabError

RUNS = "runs"
"""Where a command that runs in the lesson's folder records its runs."""
SECONDS_BETWEEN_LOOKS = 1.0


class ScriptRuns:
    """Call `poll` at every tick. folder: where runs may appear, apart from the app's folder of runs.

    clock: monotonic seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._known = set(self._paths())
        self._next_look = 0.0

    def poll(self) -> Path | None:
        """Return the folder of a new run of a script, once there is one."""
        if self._clock() < self._next_look:
            return None
        self._next_look = self._clock() + SECONDS_BETWEEN_LOOKS
        for path in self._paths():
            if path in self._known:
                continue
            try:
                if isinstance(runs.Run(path).config(), ScriptConfig):
                    return path
            except LabError:
                continue  # Its config is being written.
            self._known.add(path)
        return None

    def _paths(self) -> list[Path]:
        """Return the folders of all runs."""
        listed = [run.path for run in runs.list_runs()]
        of_lesson = [file.parent for file in self._folder.glob(f"*/{run_files.CONFIG}")]
        return [path.absolute() for path in (*listed, *of_lesson)]


def begin_terminal(progress: Progress) -> ScriptRuns | None:
    """Copy the files of the stage's command for another terminal; return what waits for its run, if the stage does.

    Raises RunError if the files cannot be copied.
    """
    terminal = progress.stage.terminal
    if terminal is None:
        return None
    progress.copy_files(progress.stage)
    return ScriptRuns(progress.folder / RUNS) if terminal.waits_for == "run" else None
