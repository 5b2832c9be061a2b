"""What a person may ask of a running training. Each takes effect at the next step boundary, as an event."""

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# A front end speaks these words before torch is there.
if TYPE_CHECKING:
    from torch import Tensor

    from tui_lab.core.user_code.external_model import Model


@dataclass(frozen=True)
class Pause:
    """Make no further update until Resume, Step or Stop."""


@dataclass(frozen=True)
class Resume:
    """Go on after a pause."""


@dataclass(frozen=True)
class Step:
    """Make `n` updates, then pause."""

    n: int = 1


@dataclass(frozen=True)
class Set:
    """Change a live setting."""

    key: str
    value: Any


@dataclass(frozen=True)
class Evaluate:
    """Measure the validation loss now."""


@dataclass(frozen=True)
class Checkpoint:
    """Save now."""


@dataclass(frozen=True)
class Whose:
    """Which weights a copy is of: after update `step`; best: the best by validation loss, not the newest."""

    step: int
    best: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Hand a copy of the weights, on the CPU, and whose they are to `receive`, called in the training's thread. A run
    that may stop early (train.patience) ends with its best weights."""

    receive: Callable[[dict[str, "Tensor"], Whose], None]


@dataclass(frozen=True)
class Inspect:
    """Call `look` with the model, in evaluation mode and without gradients, in the training's thread."""

    look: Callable[["Model"], None]


@dataclass(frozen=True)
class Stop:
    """Save and end."""


Command = Pause | Resume | Step | Set | Evaluate | Checkpoint | Snapshot | Inspect | Stop
CommandQueue = queue.SimpleQueue[Command]
"""Safe between threads, and its `put` may be called from a signal handler."""
