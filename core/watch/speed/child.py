"""The process of a script whose speed is measured: what happens before its first line and at its end."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tui_lab.core.watch.process import tried_script
from tui_lab.core.watch.process.script_end import ended_record
from tui_lab.core.watch.process.script_process import end_now, forget_own_modules
from tui_lab.util.json_lines import JsonLines

if TYPE_CHECKING:
    from tui_lab.core.watch.speed.speed_recorder import SpeedRecorder


class Child:
    """Begins when the script imports torch, which must not be imported on its behalf.

    The lines are what `SpeedRecorder` writes, and {"ended": …} if the script ends by itself.
    """

    def __init__(self, lines: JsonLines, script: str, plan: Mapping[str, Any]) -> None:
        """plan: the fields of a Plan."""
        self._lines = lines
        self._script = script
        self._plan = plan
        self._recorder: SpeedRecorder | None = None

    def begin(self) -> None:
        """Follow the script from now on: torch has been imported."""
        from tui_lab.core.watch.speed.speed_recorder import SpeedRecorder
        from tui_lab.core.watch.speed.stages import Plan

        plan = Plan(**{**self._plan, "without": frozenset(self._plan["without"])})
        self._recorder = SpeedRecorder(plan, self._lines.write, end_now)
        self._recorder.install()

    def end(self, error: BaseException | None) -> None:
        """The script has ended, maybe by an error that nothing caught."""
        if self._recorder is not None:
            self._recorder.finish()
        self._lines.write(ended=ended_record(error, self._script))


def begin(loaded_before: set[str], script: str, folder: str, out: str, seed: int, plan: dict[str, Any]) -> None:
    """Prepare this process, which is going to run the script. Python calls it through `startup`.

    folder: the one that Python puts first on sys.path for this script. out: the file for the lines. plan: the fields of
    a Plan.
    """
    lines = JsonLines(out)
    child = Child(lines, script, plan)
    tried_script.prepare(tried_script.files_beside(lines), seed, child.begin, child.end)
    forget_own_modules(loaded_before, folder)
