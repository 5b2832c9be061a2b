"""JSON that every reader takes: a number that is not finite is written as a string."""

import json
import math
from typing import Any

_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def dumps(value: Any, indent: int | None = None) -> str:
    """`value` as strict JSON (RFC 8259 has no NaN); "NaN", "Infinity" and "-Infinity" as protobuf's JSON has them."""
    return json.dumps(_named(value), indent=indent, allow_nan=False)


def number(value: Any) -> Any:
    """Undo `dumps` for a value known to be a number or None."""
    return float(value) if isinstance(value, str) else value


def _named(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return _NAMES.get(value, "NaN")
        case dict():
            return {key: _named(item) for key, item in value.items()}
        case list() | tuple():
            return [_named(item) for item in value]
        case _:
            return value
