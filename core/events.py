"""The events of a run: immutable facts that the trainer emits in the order in which they happen.

Each one is also a line of events.jsonl. The types and bounds of the fields are checked when a line is read.
"""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from tui_lab.core.config.renamed import current
from tui_lab.core.nonfinite.record import Origin
from tui_lab.util.errors import first_line
from tui_lab.util.lazy_adapter import LazyAdapter

LARGEST = 2**63 - 1
"""The largest whole number that an event may hold."""
LATEST = 253_402_300_799
"""The last second of the year 9999, in seconds since 1970."""

Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Time = Annotated[float, Field(ge=0, le=LATEST)]
Flag = Annotated[bool, Field(strict=True)]

StopReason = Annotated[
    Literal["done", "target", "patience", "stopped", "imported"],
    # "stopped" was "asked" in older run folders.
    BeforeValidator(lambda reason: "stopped" if reason == "asked" else reason),
]
"""Why a run ended: all steps done, target loss reached, patience exhausted, or stopped by the user.

imported: the log of an imported run ends here; why is not known.
"""

# A float may be a string on disk, since JSON has neither NaN nor infinity; pydantic reads such strings.
_CONFIG = ConfigDict(extra="forbid", alias_generator=lambda name: "event" if name == "kind" else name)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events. kind: its name on disk; step: the number of optimizer steps done when it happened.

    time: when it was recorded, in seconds since 1970; None for steps, which are many, and in older logs. It does not
    count when events are compared.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    kind: str
    step: Count
    time: Time | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as `parse_event` reads them, except that numbers may be NaN or infinite."""
        fields = dict(vars(self))
        time = fields.pop("time")
        return {"event": fields.pop("kind"), **fields} | ({} if time is None else {"time": time})


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """The trainer is ready for its next step. faults: the planted faults.

    Of a script, what is not known is 0: steps, n_vocab, train_examples, val_examples.
    """

    kind: Literal["started"] = "started"
    steps: Count
    parameters: Count
    n_vocab: Count
    train_examples: Count
    val_examples: Count
    device: str
    threads: Count
    resumed: Flag
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepDone(Event):
    """One optimizer step. loss in nats per target; grad_norm before clipping; seconds of this step alone.

    seconds and tokens_per_s are 0 at the first step of a script's run: it is not known when that step began.
    grad_norm is None only in a script's run, at steps where it was not measured. extra: further measurements of a
    script's run by name, such as "lr/1" for the rate of the second parameter group.

    The other optional fields are measured every few steps and None otherwise. update_ratio: see step_metrics;
    dead_units: the fraction of ReLUs that no token activates; data_seconds: the part of `seconds` that went into making
    the batch; by_layer: "grad_norm", "update_ratio" and "dead_units" → layer → value, see layer_metrics.
    """

    kind: Literal["step"] = "step"
    loss: float
    loss_ema: float
    lr: float
    grad_norm: float | None
    epoch: Count
    tokens: Count
    seconds: float
    tokens_per_s: float
    update_ratio: float | None = None
    dead_units: float | None = None
    data_seconds: float | None = None
    extra: dict[str, float] | None = None
    by_layer: dict[str, dict[str, float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """As of every event; without by_layer where it was not measured, which is at most steps."""
        fields = super().to_json()
        if self.by_layer is None:
            del fields["by_layer"]
        return fields


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """A validation. At most one of exact_match and perplexity is set: the metric of the task."""

    kind: Literal["evaluated"] = "evaluated"
    val_loss: float
    exact_match: float | None
    perplexity: float | None
    examples: Count
    best: Flag
    since_best: Count = 0
    """Evaluations since the best one: 0 for the best itself. The same weights evaluated again do not count."""


@dataclass(frozen=True, kw_only=True)
class Changed(Event):
    """A setting changed during training. It holds from step `step` (counted from 0) on."""

    kind: Literal["changed"] = "changed"
    key: Annotated[str, BeforeValidator(lambda key: current(key) if isinstance(key, str) else key)]
    old: Any
    new: Any


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    """The trainer waits between two steps."""

    kind: Literal["paused"] = "paused"


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """The trainer continues after a pause."""

    kind: Literal["resumed"] = "resumed"


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint is on disk at `path`, relative to the run folder."""

    kind: Literal["saved"] = "saved"
    path: str


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something the user should know that does not stop training."""

    kind: Literal["warned"] = "warned"
    message: str


@dataclass(frozen=True, kw_only=True)
class SaveFailed(Event):
    """A checkpoint or the event log could not be written at `path`. What was there before is intact."""

    kind: Literal["unwritten"] = "unwritten"
    message: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """The run ended without an error.

    restored: where the run may stop early, the step whose weights, the best by validation loss, the model has again.
    """

    kind: Literal["stopped"] = "stopped"
    reason: StopReason
    restored: Count | None = None


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """Training cannot continue. The weights are those before the step that failed."""

    kind: Literal["failed"] = "failed"
    message: str
    details: str = ""
    """A traceback, or empty."""


@dataclass(frozen=True, kw_only=True)
class NonFinite(Event):
    """What became infinite or NaN first in the step after `step`, whose loss or gradient is not finite."""

    kind: Literal["nonfinite"] = "nonfinite"
    origin: Origin

    @property
    def failed_step(self) -> int:
        """The step whose loss or gradient is not finite; it is not complete, so `step` is the one before."""
        return self.step + 1

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"origin": asdict(self.origin)}


@dataclass(frozen=True, kw_only=True)
class Logged(Event):
    """What a script logged by `run.log`, or the losses of an evaluation that are not its validation loss."""

    kind: Literal["logged"] = "logged"
    values: dict[str, float] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


AnyEvent = Annotated[
    Started
    | StepDone
    | Evaluated
    | Changed
    | Paused
    | Resumed
    | Saved
    | Warned
    | SaveFailed
    | Stopped
    | Failed
    | NonFinite
    | Logged,
    Field(discriminator="kind"),
]
_ADAPTER: LazyAdapter[Event] = LazyAdapter(AnyEvent)
_ORIGIN: LazyAdapter[Origin] = LazyAdapter(Origin)


def is_without_steps(reason: str, *, has_steps: bool) -> bool:
    """Return whether a run ended by itself without a step.

    It is not done: its script may not train, or in an unseen way.
    """
    return reason == "done" and not has_steps


def parse_event(line: str | bytes) -> Event:
    """Return the event of one line of events.jsonl. Raises ValueError for a line of another shape."""
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ValueError(f"not an event: {first_line(error)}") from error


def from_json(record: Any) -> Event:
    """Return the event whose `to_json` gave `record`. Raises ValueError for a value of another shape."""
    try:
        return _ADAPTER.validate_python(record)
    except ValidationError as error:
        raise ValueError(f"not an event: {first_line(error)}") from error


def parse_origin(text: str | bytes) -> Origin:
    """Return the origin that `text` holds as JSON. Raises ValueError for another shape."""
    try:
        return _ORIGIN.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not an origin: {first_line(error)}") from error
