"""How far the Trainer of transformers or Lightning is, read from its state, without importing the library."""

import math
import weakref
from types import FrameType
from typing import Any, Protocol

from tui_lab.core.watch.variables.frames import locals_of, with_callers
from tui_lab.core.watch.variables.loop_progress import LoopProgress
from tui_lab.core.watch.variables.script_objects import stored

TRANSFORMERS = "transformers.trainer"
"""Its functions run the training loop, with the Trainer as `self`."""
LIGHTNING = ("lightning.pytorch.loops.fit_loop", "pytorch_lightning.loops.fit_loop")
"""Their functions run the training loop, with the fit loop as `self`."""
ENDS_EARLY = frozenset(("EarlyStopping", "GradientAccumulationScheduler", "Timer"))
"""Callbacks of Lightning with which the number of steps is not known before."""


class Progress(Protocol):
    """frame: of a step. n_begun: how many steps of the same training were made before it."""

    def steps(self, frame: FrameType | None, n_begun: int) -> int:
        """Return the number of optimizer steps of the whole training, 0 if unknown."""
        ...

    def epoch(self, frame: FrameType | None) -> int:
        """Return the epoch that has begun, from 0; 0 if unknown."""
        ...


def progress_of(frame: FrameType | None, *, is_late: bool = False) -> Progress:
    """Return that of the trainer which makes the step of `frame`, or of the script's own loops.

    is_late: whether the step is seen only before the next one, as an update by hand.
    """
    for each in with_callers(frame):
        module = each.f_globals.get("__name__")
        if module == TRANSFORMERS and "state" in stored(trainer := locals_of(each).get("self")):
            return TransformersProgress(trainer)
        if module in LIGHTNING and "epoch_loop" in stored(fit_loop := locals_of(each).get("self")):
            return LightningProgress(fit_loop)
    return LoopProgress(frame, is_late=is_late)


class TransformersProgress:
    """Does not keep the Trainer alive. Its state is looked up each time: every `train()` makes a new one."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = weakref.ref(trainer)

    def steps(self, frame: FrameType | None, n_begun: int) -> int:
        return max(0, int(self._number("max_steps")))

    def epoch(self, frame: FrameType | None) -> int:
        return max(0, int(self._number("epoch")))

    def _number(self, name: str) -> float:
        value = stored(stored(self._trainer()).get("state")).get(name)
        return float(value) if isinstance(value, int | float) else 0.0


class LightningProgress:
    """Does not keep the fit loop of the Trainer alive."""

    def __init__(self, fit_loop: Any) -> None:
        self._fit_loop = weakref.ref(fit_loop)

    def steps(self, frame: FrameType | None, n_begun: int) -> int:
        loop = stored(self._fit_loop())
        trainer = stored(loop.get("trainer"))
        module = stored(trainer.get("_lightning_module")) or stored(stored(_strategy(trainer)).get("_lightning_module"))
        callbacks = {type(callback).__name__ for callback in trainer.get("callbacks") or ()}
        if not module.get("_automatic_optimization", False) or callbacks & ENDS_EARLY:
            return 0
        ends = [_whole(stored(loop.get("epoch_loop")).get("max_steps"))]
        n_batches = _whole(loop.get("max_batches"))
        every = _whole(trainer.get("accumulate_grad_batches"))
        n_epochs = _whole(loop.get("max_epochs"))
        if n_batches and every and n_epochs:
            ends.append(math.ceil(n_batches / every) * n_epochs)
        return min((end for end in ends if end), default=0)

    def epoch(self, frame: FrameType | None) -> int:
        current = stored(stored(stored(self._fit_loop()).get("epoch_progress")).get("current"))
        return _whole(current.get("processed"))


def _strategy(trainer: dict[Any, Any]) -> Any:
    """Return what keeps the module of a Trainer of Lightning."""
    return stored(trainer.get("_accelerator_connector")).get("strategy")


def _whole(value: object) -> int:
    """Return a positive whole number, 0 for anything else."""
    return value if type(value) is int and value > 0 else 0
