"""Errors that the user can act on. Each has its problems as data; front ends show them without a traceback."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_SHOWN = 200
"""Characters of a name or value that a message quotes."""

Code = Literal[
    "invalid",  # The value is of the right type but not allowed.
    "wrong_type",
    "unknown_key",
    "unknown_name",  # There is no preset, run, metric, … with this name.
    "missing",  # A required value is missing.
    "conflict",  # Two options, settings or files exclude each other.
    "exists",  # The target of a write exists already.
    "not_found",
    "unreadable",
    "unwritable",
    "damaged",
    "needs_restart",
    "in_use",  # Another process holds the run folder or the port.
    "not_trusted",  # User code that the user has not named.
    "user_code",  # User code that raised an exception or returned something unexpected.
    "too_large",
    "unavailable",  # Not supported by this machine, torch build or installation.
]

_ABSENT: Any = object()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing to fix. Rendered as `key = value: message; allowed: …; did you mean 'suggestion'?`.

    message: what is wrong, without the key, the value and the suggestion, which have their own fields.
    """

    code: Code
    message: str
    key: str = ""
    value: Any = _ABSENT
    allowed: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        value = "" if self.value is _ABSENT else shown(self.value)
        subject = f"{self.key} = {value}" if self.key and value else self.key or value
        text = f"{subject}: {self.message}" if subject else self.message
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.suggestion:
            text += f"; did you mean {self.suggestion!r}?"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return the problem for another process. A value that JSON does not have is sent as its text."""
        fields = {name: value for name, value in vars(self).items() if value is not _ABSENT}
        if not isinstance(self.value, str | int | float | None) and self.value is not _ABSENT:
            fields["value"] = shown(self.value)
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """Return the problem that `to_json` describes."""
        return cls(**fields)


class LabError(ValueError):
    """Base of the errors below. `problems` holds at least one Problem; str() renders one line for each."""

    def __init__(self, problems: str | Problem | Sequence[str | Problem]) -> None:
        given = [problems] if isinstance(problems, str | Problem) else problems
        self.problems = tuple(p if isinstance(p, Problem) else Problem(code="invalid", message=p) for p in given)
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def of(
        cls,
        code: Code,
        message: str,
        *,
        key: str = "",
        value: Any = _ABSENT,
        allowed: str = "",
        suggestion: str = "",
    ) -> Self:
        """Return an error with one problem; the fields are those of `Problem`."""
        return cls(Problem(code=code, message=message, key=key, value=value, allowed=allowed, suggestion=suggestion))

    @property
    def code(self) -> Code:
        """The code of the first problem."""
        return self.problems[0].code


class ConfigError(LabError):
    """Bad settings, options or user code."""


class DataError(LabError):
    """Bad data or a bad data setting."""


class RunError(LabError):
    """A run folder that is missing, damaged, in use or not a run folder."""


class TrainingError(RuntimeError):
    """Training cannot continue: the loss or a gradient is not finite, or the machine is out of memory."""


def nearest(name: str, names: Iterable[str], cutoff: float = 0.5) -> str:
    """Return the most similar of `names`, or "" where none is similar. cutoff: difflib's, from 0 to 1."""
    # Comparing takes quadratic time, and a very long name is a mistake of another kind.
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff) if len(name) <= MAX_SHOWN else []
    return matches[0] if matches else ""


def first_line(error: "ValidationError") -> str:
    """Return the first complaint of pydantic: where it is, what is wrong, and the value."""
    item = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in item["loc"])
    return f"{shortened(place)} = {shown(item['input'])}: {item['msg']}" if place else f"{item['msg']}"


def shown(value: Any) -> str:
    """`value` in a message: its repr, cut if it is long."""
    try:
        return shortened(repr(value))
    except (ValueError, RecursionError):  # An integer of more than 4,300 digits; brackets nested beyond the stack.
        return f"a {type(value).__name__} too large to show"


def shortened(text: str) -> str:
    """`text`, cut after MAX_SHOWN characters."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"
