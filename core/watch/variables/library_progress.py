"""How far a transformers Trainer is, read from its state, without importing the library."""

import weakref
from types import FrameType
from typing import Any

from tui_lab.core.watch.variables.frames import locals_of, with_callers
from tui_lab.core.watch.variables.script_objects import stored

MODULE = "transformers.trainer"
"""Its functions run the training loop, with the Trainer as `self`."""


class TrainerProgress:
    """Does not keep the Trainer alive. Its state is looked up each time: every `train()` makes a new one."""

    def __init__(self, trainer: Any = None) -> None:
        self._trainer = None if trainer is None else weakref.ref(trainer)

    @classmethod
    def of(cls, frame: FrameType | None) -> "TrainerProgress":
        """Return that of the Trainer that runs this frame; one that knows nothing if there is none."""
        for each in with_callers(frame):
            if each.f_globals.get("__name__") == MODULE:
                trainer = locals_of(each).get("self")
                if "state" in stored(trainer):
                    return cls(trainer)
        return cls()

    @property
    def steps(self) -> int:
        """The number of optimizer steps of the whole training, 0 if unknown."""
        return max(0, int(self._number("max_steps")))

    @property
    def epoch(self) -> int:
        """The epoch that has begun, from 0; 0 if unknown."""
        return max(0, int(self._number("epoch")))

    def _number(self, name: str) -> float:
        trainer = None if self._trainer is None else self._trainer()
        value = stored(stored(trainer).get("state")).get(name)
        return float(value) if isinstance(value, int | float) else 0.0
