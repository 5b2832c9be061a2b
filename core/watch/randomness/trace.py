"""What a script did, in its order, as fingerprints; and where two runs of it differ first."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["weights", "batch", "loss", "gradient", "setting", "update"]
PATH = "path"
"""The kind of a difference where two runs do not do the same things."""


@dataclass(frozen=True)
class Entry:
    """One thing that the script did.

    step: the optimizer step that it belongs to, from 1. kind: weights: a parameter or buffer at the first call of its
    model; batch: an input of a model or loss; loss: what backward() got; gradient, update: of a parameter, before and
    after a step of its optimizer; setting: of that optimizer. name: of the tensor or setting. value: the loss or
    setting, or a fingerprint.
    """

    step: int
    kind: Kind
    name: str
    value: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Entry":
        """Return an entry from its JSON."""
        return cls(**record)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """The first thing in which two runs differ.

    step, name: as of an Entry. kind: as of an Entry, or PATH. values: of the two runs; "" where one ended before.
    before: the kinds of all entries before it, which are the same. position: how many there are.
    """

    step: int
    kind: str
    name: str
    values: tuple[str, str]
    before: tuple[str, ...]
    position: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def first_difference(one: Sequence[Entry], other: Sequence[Entry]) -> Difference | None:
    """Return the first difference of two runs, None if they are the same."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a == b:
            continue
        is_same_thing = (a.step, a.kind, a.name) == (b.step, b.kind, b.name)
        kind = a.kind if is_same_thing else PATH
        return Difference(a.step, kind, a.name, (a.value, b.value), kinds_of(one[:position]), position)
    if len(one) == len(other):
        return None
    shorter = min(len(one), len(other))
    longer = max(one, other, key=len)[shorter]
    values = ("", longer.value) if len(one) < len(other) else (longer.value, "")
    return Difference(longer.step, PATH, longer.name, values, kinds_of(one[:shorter]), shorter)


def kinds_of(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Return the kinds in a run, each once, in their order."""
    return tuple(dict.fromkeys(entry.kind for entry in entries))
