"""What a training says of itself: frozen facts, in the order in which they happened."""

from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, ClassVar

from tui_lab.util.strict_json import number


@dataclass(frozen=True, kw_only=True)
class Event:
    """`step` is the number of updates done when it happened."""

    kind: ClassVar[str]
    step: int

    def to_json(self) -> dict[str, Any]:
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The training is ready to make its next update."""

    kind: ClassVar[str] = "started"
    steps: int
    parameters: int
    n_vocab: int
    train_examples: int
    val_examples: int
    device: str
    threads: int
    resumed: bool
    faults: tuple[str, ...] = ()
    """Mistakes made on purpose."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "faults", tuple(self.faults))


@dataclass(frozen=True, kw_only=True)
class StepDone(Event):
    """One update. loss in nats a target; grad_norm before clipping; seconds of this step alone.

    Measured every few steps, else None: update_ratio, see update_ratio.py; dead_units, the share of ReLUs that fire
    for no token; data_seconds, what of `seconds` went into making the batch.
    """

    kind: ClassVar[str] = "step"
    loss: float
    loss_ema: float
    lr: float
    grad_norm: float
    epoch: int
    tokens: int
    seconds: float
    tokens_per_s: float
    update_ratio: float | None = None
    dead_units: float | None = None
    data_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Validation. The task's own metric is set, the other is None; both are None where the loss is all there is."""

    kind: ClassVar[str] = "evaluated"
    val_loss: float
    exact_match: float | None
    perplexity: float | None
    examples: int
    best: bool
    since_best: int = 0
    """Evaluations since the best one: 0 for the best itself. The same weights evaluated again do not count."""


@dataclass(frozen=True, kw_only=True)
class Changed(Event):
    """A setting changed while training; it holds from update number `step` (counted from 0) on."""

    kind: ClassVar[str] = "changed"
    key: str
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    kind: ClassVar[str] = "paused"


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    kind: ClassVar[str] = "resumed"


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint is safe on disk at `path`, relative to the run folder."""

    kind: ClassVar[str] = "saved"
    path: str


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    kind: ClassVar[str] = "warned"
    message: str


@dataclass(frozen=True, kw_only=True)
class Unwritten(Warned):
    """What ought to be on disk is not: a checkpoint, or the record itself. What was there before is intact."""

    kind: ClassVar[str] = "unwritten"
    path: str


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The training ended well. reason: "done", "target", "patience" or "asked". restored: where the run may stop
    early, the update whose weights, the best by validation loss, the model has again."""

    kind: ClassVar[str] = "stopped"
    reason: str
    restored: int | None = None


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The training cannot go on; the weights are those before the update that failed."""

    kind: ClassVar[str] = "failed"
    message: str


KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (Started, StepDone, Evaluated, Changed, Paused, Resumed, Saved, Warned, Unwritten, Stopped, Failed)
}

LARGEST = 2**63 - 1
"""A whole number beyond it was never counted by a training."""


_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,), float: (float, int), str: (str,), bool: (bool,), int | None: (int, NoneType),
    float | None: (float, int, NoneType), str | None: (str, NoneType), tuple[str, ...]: (list, tuple),
}  # fmt: skip
"""Of fields, with the types that JSON may give them."""


def _checks(event: type[Event]) -> tuple[tuple[str, tuple[type, ...], int], ...]:
    """Each field that can be checked, with its types and its lowest whole number: all that are counted begin at 0."""
    known = [(f.name, _TYPES[f.type]) for f in fields(event) if f.type in _TYPES]
    return tuple((name, types, -LARGEST if float in types else 0) for name, types in known)


_CHECKS = {kind: _checks(event) for kind, event in KINDS.items()}


def from_json(record: Any) -> Event:
    """The event that wrote `record`. Raises ValueError for a record of no known kind or shape."""
    if not isinstance(record, dict):
        raise ValueError("not an event")
    values = dict(record)
    kind = values.pop("event", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"event {str(kind)[:40]!r} is not known")
    try:
        for name, types, low in _CHECKS[kind]:
            value = values.get(name, types)
            if value is types:
                continue  # Not given: the event says whether it may be absent.
            if type(value) not in types:
                values[name] = _mended(name, value, types)
            elif type(value) is int and not low <= value <= LARGEST:
                raise ValueError(f"{name} is beyond all counting")
        return KINDS[kind](**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not an event of kind {kind!r}: {error}") from error


def _mended(name: str, value: Any, types: tuple[type, ...]) -> Any:
    """The number that strict JSON had to write as a word. Raises ValueError for any other value."""
    if float in types and value in ("NaN", "Infinity", "-Infinity"):
        return number(value)
    raise ValueError(f"{name} is of type {type(value).__name__}")
