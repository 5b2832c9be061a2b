"""The process of a script whose learning rate is tested: what happens before its first line and at its end."""

import os
import sys
from typing import TYPE_CHECKING

from tui_lab.core.watch import script_process
from tui_lab.core.watch.script_process import at_end, forget_shadowed_modules, when_imported
from tui_lab.core.watch.seeding import seed_generators
from tui_lab.core.watch.unwritten.unwritten_files import UnwrittenFiles
from tui_lab.util.json_lines import JsonLines

if TYPE_CHECKING:
    from tui_lab.core.watch.rate_test.ramped_script import RampedScript


class Child:
    """Begins the test when the script imports torch, which must not be imported on its behalf."""

    def __init__(self, lines: JsonLines, n_rates: int, low: float | None, high: float | None) -> None:
        self._lines = lines
        self._n_rates = n_rates
        self._low = low
        self._high = high
        self._pid = os.getpid()
        self._script: RampedScript | None = None

    def begin(self) -> None:
        """Record from now on: torch has been imported."""
        if os.getpid() != self._pid:  # A forked child is not recorded.
            return
        from tui_lab.core.watch.rate_test.ramped_script import RampedScript
        from tui_lab.core.watch.rate_test.rate_ramp import RateRange

        self._script = RampedScript(self._lines, RateRange(self._n_rates, self._low, self._high))

    def end(self, error: BaseException | None) -> None:
        """The script has ended, maybe by an error that nothing caught."""
        if self._script is not None:
            self._script.finish()
        if error is not None:
            self._lines.write(error=f"{type(error).__name__}: {error}")


def begin(
    loaded_before: set[str],
    folder: str,
    out: str,
    seed: int,
    n_rates: int,
    low: float | None,
    high: float | None,
) -> None:
    """Prepare this process, which is going to run the script. Python calls it through `startup`.

    folder: the one that Python puts first on sys.path for this script. out: the file for the lines; copies of files
    that the script changes are beside it. n_rates, low, high: as in RateRange.
    """
    script_process.is_examined = True
    child = Child(JsonLines(out), n_rates, low, high)
    UnwrittenFiles(os.path.join(os.path.dirname(out), "copies")).install()
    seed_generators(seed)
    when_imported("torch", child.begin)
    at_end(child.end)
    if not sys.flags.safe_path:
        forget_shadowed_modules([name for name in sys.modules if name not in loaded_before], folder)
