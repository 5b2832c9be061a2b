"""Strict JSON: numbers that are not finite are written as strings."""

import json
import math
import re
import zlib
from typing import Any

SEAL = "crc32"
_SEALED = re.compile(r'\{"crc32": (\d{1,10}),')
_ENCODER = json.JSONEncoder(allow_nan=False)
_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def dumps(value: Any, indent: int | None = None) -> str:
    """Return `value` as strict JSON (RFC 8259), with "NaN", "Infinity" and "-Infinity" as in protobuf's JSON."""
    try:
        return _ENCODER.encode(value) if indent is None else json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:  # A number that is not finite. To look for one first would take twice as long.
        return json.dumps(_named(value), indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """Parse strict JSON. Raises ValueError for anything else, and for JSON that is nested too deeply."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sealed(values: dict[str, Any], indent: int | None = None) -> str:
    """Return `values`, which are not empty, as JSON whose first entry is the CRC-32 of the rest."""
    body = dumps(values, indent)
    return f'{{"{SEAL}": {zlib.crc32(body.encode())},{body[1:]}'


def unsealed_text(text: str) -> tuple[str, bool]:
    """Return the JSON that `sealed` wrote, without its checksum, and whether there was one.

    Raises ValueError where the checksum does not match.
    """
    match = _SEALED.match(text)
    if match is None:
        return text, False
    body = "{" + text[match.end() :]
    if zlib.crc32(body.encode()) != int(match[1]):
        raise ValueError("damaged: the checksum does not match")
    return body, True


def unsealed(text: str) -> tuple[Any, bool]:
    """Return the values that `sealed` wrote, and whether there was a checksum.

    Raises ValueError where it does not match.
    """
    body, has_checksum = unsealed_text(text)
    return loads(body), has_checksum


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


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
