"""Commands to a running trainer. Each takes effect at the next step boundary and is answered by an event."""

import queue
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs

from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.script import RunConfig
from tui_lab.util.errors import ConfigError

# The app makes commands before torch is imported.
if TYPE_CHECKING:
    from torch import Tensor

    from tui_lab.core.user_code.external_model import Model


Look = Literal["lens", "ablation", "norms"]
"""What to measure inside a model: see `core/inside/`."""
Replacement = Literal["zero", "mean"]
"""What takes the place of a part that is taken out."""


@dataclass(frozen=True)
class Pause:
    """Make no further step until Resume, Step or Stop."""


@dataclass(frozen=True)
class Resume:
    """Continue after a pause."""


@dataclass(frozen=True)
class Step:
    """Make `n` steps, then pause. Several commands sent at once accumulate."""

    n: int = 1


@dataclass(frozen=True)
class Set:
    """Change a live setting."""

    key: str
    value: Any


@dataclass(frozen=True)
class Scale:
    """Multiply a live setting by `factor`, within its bounds. Several commands sent at once accumulate."""

    key: str
    factor: float


@dataclass(frozen=True)
class Shift:
    """Add `amount` to a live setting, within its bounds."""

    key: str
    amount: float


@dataclass(frozen=True)
class Cycle:
    """Change a live setting to the next of `values`, or to the first if its value is none of them."""

    key: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))  # JSON makes it a list.


@dataclass(frozen=True)
class Undo:
    """Revert the last live change that has not been reverted."""


@dataclass(frozen=True)
class Evaluate:
    """Measure the validation loss now."""


@dataclass(frozen=True)
class Save:
    """Write a checkpoint now. keep: whether it stays when later ones are written."""

    keep: bool = True


@dataclass(frozen=True)
class WeightsInfo:
    """Which weights a copy holds: those after step `step`. best: the best by validation loss, not the last."""

    step: int
    best: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Call `receive` in the trainer's thread with a copy of the weights, on the CPU, and which weights they are.

    After the end of a run that may stop early (train.patience) these are its best weights. at_evaluation: not now, but
    after the next evaluation. refuse: called with the reason if no weights can be had, such as without a checkpoint or
    memory, or if the training ends before.
    """

    receive: Callable[[dict[str, "Tensor"], WeightsInfo], None]
    at_evaluation: bool = False
    refuse: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Inspect:
    """Call `look` in the trainer's thread with the model, in evaluation mode and without gradients.

    Where no model trains in this process, it is that of a checkpoint. loaded: called before `look` with which weights
    it has. refuse: called with the reason if there is none, if `look` raises, or if the training ends before.
    """

    look: Callable[["Model"], None]
    loaded: Callable[[WeightsInfo], None] | None = None
    refuse: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Generate:
    """Generate text in the process that has the model; the answer goes into the run folder.

    id: names the answer: letters, digits and hyphens. The other fields: see `Sampling`.
    """

    id: str
    prompt: str
    max_new_tokens: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Attend:
    """Capture the attention weights for one row of the recorded batch; the answer goes into the run folder."""

    id: str
    row: int = 0


@dataclass(frozen=True)
class LookInside:
    """Measure one row of the recorded batch inside the model; the answer goes into the run folder. how: to ablate."""

    id: str
    look: Look
    row: int = 0
    how: Replacement = "zero"


@dataclass(frozen=True)
class Stop:
    """Save and end."""


def refuse(command: "Command", reason: str) -> bool:
    """Call the `refuse` of a command that has one; return whether it has."""
    if not isinstance(command, Snapshot | Inspect) or command.refuse is None:
        return False
    command.refuse(reason)
    return True


Change = Set | Scale | Shift | Cycle | Undo
Command = Pause | Resume | Step | Change | Evaluate | Save | Snapshot | Inspect | Generate | Attend | LookInside | Stop
CommandQueue = queue.SimpleQueue[Command]
"""Thread-safe; `put` may also be called from a signal handler."""


def resolve(command: Change, config: RunConfig, undo_stack: Sequence[ev.Changed]) -> tuple[str, Any]:
    """Return the key that `command` changes and its new value, given the settings in force.

    Raises ConfigError if there is nothing to change, or if the setting cannot change while training.
    """
    if isinstance(command, Undo):
        if not undo_stack:
            raise ConfigError.of("invalid", "nothing to undo: no live changes are left")
        return undo_stack[-1].key, undo_stack[-1].old
    key = command.key
    script.get(config, key)  # Raises ConfigError if there is no such setting.
    if key not in script.live_keys(config):
        raise ConfigError(script.not_live(config, key))
    return key, changed_value(command, config)


def undo_stack(changes: Iterable[ev.Changed], config: RunConfig) -> list[ev.Changed]:
    """Return the live changes of a run that still hold: those that no later change of the same key reverted.

    config: of the run; a fork's log also has changes of settings that are not live.
    """
    live_keys = script.live_keys(config)
    stack: list[ev.Changed] = []
    for change in changes:
        if stack and (stack[-1].key, stack[-1].old, stack[-1].new) == (change.key, change.new, change.old):
            stack.pop()
        elif change.key in live_keys:
            stack.append(change)
    return stack


def changed_value(command: Set | Scale | Shift | Cycle, config: RunConfig) -> Any:
    """Return the value that a command gives its setting, whether or not it can change while training.

    Raises ConfigError if nothing changes within the setting's bounds, or if it is not a number but has to be one.
    """
    key = command.key
    value = script.get(config, key)
    if isinstance(command, Scale | Shift) and not isinstance(value, int | float):
        raise ConfigError.of("wrong_type", "is not a number; use Set or Cycle", key=key, value=value)
    match command:
        case Scale(_, factor):
            return _within_bounds(config, key, value, value * factor)
        case Shift(_, amount):
            # Rounded, so that 0.1 + 0.05 is 0.15.
            return _within_bounds(config, key, value, round(value + amount, 10))
        case Cycle(_, values):
            return values[(values.index(value) + 1) % len(values)] if value in values else values[0]
        case Set(_, new_value):
            return new_value


def _within_bounds(config: RunConfig, key: str, old: float, wanted: float) -> float:
    """Return `wanted` cut to the bounds of `key`. Raises ConfigError if nothing of the change is left."""
    low, high = script.bounds(config, key)
    new = max(low, min(high, wanted))
    new = int(new) if isinstance(old, int) else new
    if new == old:
        message = f"cannot change to {wanted:g}"
        raise ConfigError.of("invalid", message, key=key, value=old, allowed=f"{low:g} to {high:g}")
    return new


SENDABLE: dict[str, type[Command]] = {
    "pause": Pause,
    "resume": Resume,
    "step": Step,
    "set": Set,
    "scale": Scale,
    "shift": Shift,
    "cycle": Cycle,
    "undo": Undo,
    "evaluate": Evaluate,
    "save": Save,
    "generate": Generate,
    "attend": Attend,
    "look_inside": LookInside,
    "stop": Stop,
}
"""The commands that can be sent to another process, by name. Snapshot and Inspect hold functions, so they cannot."""
_NAMES = {command: name for name, command in SENDABLE.items()}


def to_json(command: Command) -> dict[str, Any]:
    """`command` as a JSON object. Raises ValueError for one that cannot leave the process."""
    name = _NAMES.get(type(command))
    if name is None:
        raise ValueError(f"{type(command).__name__} cannot be sent to another process")
    return {"command": name, **vars(command)}


def from_json(record: Any) -> Command:
    """Return the command that `to_json` wrote. Raises ValueError for an unknown name or a wrong field."""
    values = dict(record) if isinstance(record, dict) else {}
    kind = SENDABLE.get(str(values.pop("command", None)))
    if kind is None:
        raise ValueError("not a command")
    unknown = values.keys() - {field.name for field in fields(kind)}
    if unknown:
        raise ValueError(f"{kind.__name__} has no {min(unknown)!r}")
    try:
        command: Command = TypeAdapter(kind).validate_python(ArgsKwargs((), values))
    except ValidationError as error:
        raise ValueError(f"not a valid {kind.__name__}: {error.errors()[0]['msg']}") from error
    return command
