"""The process of a script whose learning rate is tested: what happens before its first line and at its end."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tui_lab.core.watch.process import tried_script
from tui_lab.core.watch.process.script_end import ended_record
from tui_lab.core.watch.process.script_process import forget_own_modules
from tui_lab.util.json_lines import JsonLines

if TYPE_CHECKING:
    from tui_lab.core.watch.rate_test.ramped_script import RampedScript


class Child:
    """Begins the test when the script imports torch, which must not be imported on its behalf."""

    def __init__(self, lines: JsonLines, script: str, rates: Mapping[str, Any]) -> None:
        """rates: the fields of a RateRange."""
        self._lines = lines
        self._name = script
        self._rates = rates
        self._script: RampedScript | None = None

    def begin(self) -> None:
        """Record from now on: torch has been imported."""
        from tui_lab.core.training.range_points import RateRange
        from tui_lab.core.watch.rate_test.ramped_script import RampedScript

        self._script = RampedScript(self._lines, RateRange(**self._rates))

    def end(self, error: BaseException | None) -> None:
        """The script has ended, maybe by an error that nothing caught."""
        if self._script is not None:
            self._script.finish()
        self._lines.write(ended=ended_record(error, self._name))


def begin(loaded_before: set[str], script: str, folder: str, out: str, seed: int, rates: dict[str, Any]) -> None:
    """Prepare this process, which is going to run the script. Python calls it through `startup`.

    folder: the one that Python puts first on sys.path for this script. out: the file for the lines. rates: the fields
    of a RateRange.
    """
    lines = JsonLines(out)
    child = Child(lines, script, rates)
    tried_script.prepare(tried_script.files_beside(lines), seed, child.begin, child.end)
    forget_own_modules(loaded_before, folder)
