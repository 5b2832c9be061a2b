"""How many steps a script's own loops make, and in which epoch they are: read from their source and variables.

A number is given only where it is certain: not for a loop that something else may end, such as early stopping.
"""

from types import FrameType

from tui_lab.core.watch.variables.epoch_variable import epoch_variable
from tui_lab.core.watch.variables.loops import loops_around
from tui_lab.core.watch.variables.plain_values import NotPlain
from tui_lab.core.watch.variables.repeated_training import may_be_repeated
from tui_lab.core.watch.variables.step_count import StepCount, whole_numbers

_MOST_STEPS = 10**12


class LoopProgress:
    """Looks at the loops around the first step, and again at a later one. Keeps no variable of the script."""

    def __init__(self, frame: FrameType | None, *, is_late: bool = False) -> None:
        """frame: that of the first step. is_late: whether steps are seen in the pass of the loop after theirs."""
        self._is_late = is_late
        loops = loops_around(frame)
        self._places = [loop.place for loop in loops]
        self._counts = whole_numbers(loops)
        """The whole numbers that the loops count or are compared with, by text, at the first step."""
        self._epochs = epoch_variable(loops)

    def steps(self, frame: FrameType | None, n_begun: int) -> int:
        """Return how many steps the loops make together, 0 if it is not certain.

        frame: of a step before which `n_begun` others were made since the first one, which counts.
        """
        loops = loops_around(frame)
        if not loops or n_begun < 1 or [loop.place for loop in loops] != self._places:
            return 0
        if may_be_repeated(frame, loops):
            return 0
        try:
            n_steps = StepCount(loops, self._counts, n_begun, is_late=self._is_late).total
        except NotPlain:
            return 0
        return int(n_steps) if n_begun < n_steps <= _MOST_STEPS else 0

    def epoch(self, frame: FrameType | None) -> int:
        """Return the epoch of a step, from 0; 0 if it is not known."""
        return 0 if self._epochs is None else self._epochs.epoch(frame)
