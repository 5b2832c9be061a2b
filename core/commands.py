"""What a person may ask of a running training. Each takes effect at the next step boundary, as an event."""

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.util.errors import ConfigError

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
class Scale:
    """Multiply a live setting by `factor`, within its bounds. Relative, so that several sent at once add up."""

    key: str
    factor: float


@dataclass(frozen=True)
class Shift:
    """Add `amount` to a live setting, within its bounds."""

    key: str
    amount: float


@dataclass(frozen=True)
class Cycle:
    """Change a live setting to the one of `values` after the present one; from any other value, to the first."""

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))  # JSON makes it a list.


@dataclass(frozen=True)
class Undo:
    """Take back the last live change that has not been undone."""


@dataclass(frozen=True)
class Evaluate:
    """Measure the validation loss now."""


@dataclass(frozen=True)
class Save:
    """Save now."""


@dataclass(frozen=True)
class WeightsInfo:
    """Which weights a copy is of: after update `step`; best: the best by validation loss, not the newest."""

    step: int
    best: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Hand a copy of the weights, on the CPU, and whose they are to `receive`, called in the training's thread. A run
    that may stop early (train.patience) ends with its best weights."""

    receive: Callable[[dict[str, "Tensor"], WeightsInfo], None]


@dataclass(frozen=True)
class Inspect:
    """Call `look` with the model, in evaluation mode and without gradients, in the training's thread."""

    look: Callable[["Model"], None]


@dataclass(frozen=True)
class Stop:
    """Save and end."""


Change = Set | Scale | Shift | Cycle | Undo
Command = Pause | Resume | Step | Change | Evaluate | Save | Snapshot | Inspect | Stop
CommandQueue = queue.SimpleQueue[Command]
"""Safe between threads, and its `put` may be called from a signal handler."""


def resolve(command: Change, config: Config, undoable: Sequence[ev.Changed]) -> tuple[str, Any]:
    """The key that `command` changes and its new value, where `config` is in force; Undo takes the last of `undoable`.

    Raises ConfigError where there is nothing to change, or where a running training cannot change it.
    """
    if isinstance(command, Undo):
        if not undoable:
            raise ConfigError(["nothing to undo: no live change since the start"])
        return undoable[-1].key, undoable[-1].old
    key = command.key
    if not settings.is_live(key):
        raise ConfigError([f"{key} needs a restart: it cannot change while training"])
    now = settings.get(config, key)
    if isinstance(command, Scale | Shift) and not isinstance(now, int | float):
        raise ConfigError([f"{key} = {now!r}: not a number; allowed is Set or Cycle"])
    match command:
        case Scale(_, factor):
            return key, _moved(key, now, now * factor, f"scaled by {factor:g}")
        case Shift(_, amount):
            # Rounded, so that 0.1 + 0.05 is 0.15.
            return key, _moved(key, now, round(now + amount, 10), f"shifted by {amount:g}")
        case Cycle(_, values):
            return key, values[(values.index(now) + 1) % len(values)] if now in values else values[0]
        case Set(_, value):
            return key, value


def _moved(key: str, now: float, wanted: float, how: str) -> float:
    low, high = settings.bounds(key)
    new = max(low, min(high, wanted))
    new = int(new) if isinstance(now, int) else new
    if new == now:
        raise ConfigError([f"{key} = {now}: {how} it stays the same; allowed is {low:g} to {high:g}"])
    return new
