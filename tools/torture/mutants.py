"""Damage one file of a run folder: flipped bits, cuts, other shapes and types, files that are not files."""

import json
import os
import random
import shutil
import struct
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from tui_lab.util.strict_json import sealed

STRANGE: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 2**31, 2**63, 2**70, 10**400, -0.5, 1e308),
    *("", "x", "NaN", "\x1b[2J", "../../x", "\ud800", [], [[]], {}, {"a": 1}, [1, "a", None]),
)
"""Values of the wrong type or size."""
RAW = ("NaN", "Infinity", "-Infinity", "1e999", "[" * 50_000, '{"a":' * 50_000, "[" * 9_000_000, "00", "'")
"""Texts that a JSON parser may fail on."""
DEEP = "[" * 900 + "]" * 900


@dataclass(frozen=True)
class Mutant:
    """What was damaged. file: relative to the run folder. checked: its checksum is unchanged, so it must be noticed."""

    file: str
    what: str
    checked: bool


def mutate(run: Path, random_source: random.Random) -> Mutant:
    """Damage one file in the run folder."""
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and ".lock" not in path.name)
    name = random_source.choice(names)
    path = run / name
    ways: list[Callable[[Path, random.Random], str]] = [*BYTES, *BYTES]
    if path.suffix == ".json":
        ways += [_json_value, _json_value, _json_value, _json_key, _json_raw]
    if path.suffix == ".jsonl":
        ways += [_line_value, _line_value, _line_key, _line_raw, _line_torn, _lines_swapped]
    if path.suffix == ".toml":
        ways += [_toml_value, _toml_value, _toml_raw]
    if path.suffix == ".safetensors":
        ways += [_header_length, _header, _header, _header]
    way = random_source.choice(ways)
    what = way(path, random_source)
    checked = way in BYTES
    if path.suffix == ".safetensors" and not checked:
        _remove_checksums(path.parent)
    return Mutant(name, f"{way.__name__.strip('_')}: {what}", checked)


def _flip(path: Path, random_source: random.Random) -> str:
    content = bytearray(path.read_bytes())
    places = (
        [random_source.randrange(len(content)) for _ in range(random_source.choice((1, 1, 1, 8)))] if content else []
    )
    for at in places:
        content[at] ^= 1 << random_source.randrange(8)
    path.write_bytes(content)
    return str(places)


def _cut(path: Path, random_source: random.Random) -> str:
    content = path.read_bytes()
    end = random_source.choice((0, 1, 7, 8, random_source.randrange(len(content) + 1), max(0, len(content) - 1)))
    path.write_bytes(content[:end])
    return f"{end} of {len(content)}"


def _insert(path: Path, random_source: random.Random) -> str:
    content = path.read_bytes()
    at = random_source.randrange(len(content) + 1)
    more = random_source.randbytes(random_source.choice((1, 8, 4096)))
    path.write_bytes(content[:at] + more + content[at:])
    return f"{len(more)} at {at}"


def _blank(path: Path, random_source: random.Random) -> str:
    content = path.read_bytes()
    at = random_source.randrange(len(content) + 1)
    size = len(content[at : at + 512])
    path.write_bytes(content[:at] + bytes(size) + content[at + size :])
    return f"{size} at {at}"


def _other(path: Path, random_source: random.Random) -> str:
    """Replace the file by another file of the run."""
    others = sorted(p for p in path.parents[0].iterdir() if p.is_file() and p != path and ".lock" not in p.name)
    other = random_source.choice(others) if others else path
    shutil.copy(other, path)
    return other.name


def _not_a_file(path: Path, random_source: random.Random) -> str:
    kind = random_source.choice(("gone", "folder", "pipe", "endless", "loop"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path.name)
    return kind


BYTES = (_flip, _cut, _insert, _blank, _other, _not_a_file)


def _json_value(path: Path, random_source: random.Random) -> str:
    value = _unsealed(path)
    where, changed = _changed(value, random_source)
    _write_json(path, changed, random_source)
    return where


def _json_key(path: Path, random_source: random.Random) -> str:
    value = _unsealed(path)
    where = _key(value, random_source)
    _write_json(path, value, random_source)
    return where


def _json_raw(path: Path, random_source: random.Random) -> str:
    raw = random_source.choice(RAW)
    text = path.read_text("utf-8")
    at = text.rfind(": ") + 2
    path.write_text(random_source.choice((raw, text[:at] + raw + text[at:], text[:at] + DEEP + "}")), "utf-8")
    return raw[:10]


def _unsealed(path: Path) -> Any:
    value = json.loads(path.read_text("utf-8"))
    if isinstance(value, dict):
        value.pop("crc32", None)
    return value


def _write_json(path: Path, value: Any, random_source: random.Random) -> None:
    """Write `value` with a new checksum, or with none as old runs, so that the values themselves are checked."""
    try:
        path.write_text(
            sealed(value) if isinstance(value, dict) and value and random_source.random() < 0.5 else json.dumps(value)
        )
    except ValueError:
        path.write_text(json.dumps(value))


def _changed(value: Any, random_source: random.Random) -> tuple[str, Any]:
    """Replace one part of `value`, at any depth, by a strange value; return where, and the result."""
    if isinstance(value, dict | list) and value and random_source.random() < 0.9:
        key: Any = (
            random_source.choice(sorted(value)) if isinstance(value, dict) else random_source.randrange(len(value))
        )
        where, value[key] = _changed(value[key], random_source)
        return f"{key}.{where}", value
    strange = random_source.choice(STRANGE)
    return f"= {strange!r:.30}", strange


def _key(value: Any, random_source: random.Random) -> str:
    """Remove, rename or add a key, at any depth."""
    while isinstance(value, dict) and random_source.random() < 0.6:
        inner = [item for item in value.values() if isinstance(item, dict) and item]
        if not inner:
            break
        value = random_source.choice(inner)
    if not isinstance(value, dict) or not value:
        return "nothing"
    key = random_source.choice(sorted(value))
    removed = value.pop(key)
    kind = random_source.choice(("gone", "renamed", "more"))
    if kind == "renamed":
        value[key + "x"] = removed
    elif kind == "more":
        value |= {key: removed, "more": 1}
    return f"{key} {kind}"


def _change_line(path: Path, random_source: random.Random, change: Callable[[str], str]) -> str:
    """Replace a random line by `change(line)`."""
    lines = path.read_text("utf-8").splitlines(keepends=True)
    at = random_source.randrange(len(lines))
    lines[at] = change(lines[at])
    path.write_text("".join(lines), "utf-8")
    return f"line {at + 1}"


def _line_value(path: Path, random_source: random.Random) -> str:
    return _change_line(
        path, random_source, lambda line: json.dumps(_changed(json.loads(line), random_source)[1]) + "\n"
    )


def _line_key(path: Path, random_source: random.Random) -> str:
    def change(line: str) -> str:
        value = json.loads(line)
        _key(value, random_source)
        return json.dumps(value) + "\n"

    return _change_line(path, random_source, change)


def _line_raw(path: Path, random_source: random.Random) -> str:
    return _change_line(path, random_source, lambda line: random_source.choice((*RAW, "", "x" * 2**25)) + "\n")


def _line_torn(path: Path, random_source: random.Random) -> str:
    content = path.read_bytes().rstrip(b"\n")
    end = random_source.randrange(content.rfind(b"\n") + 1, len(content))
    path.write_bytes(content[:end])
    return f"{end} of {len(content)}"


def _lines_swapped(path: Path, random_source: random.Random) -> str:
    lines = path.read_text("utf-8").splitlines(keepends=True)
    random_source.shuffle(lines)
    path.write_text("".join(lines), "utf-8")
    return "all"


def _toml_value(path: Path, random_source: random.Random) -> str:
    where, value = _changed(tomllib.loads(path.read_text("utf-8")), random_source)
    try:
        path.write_text(tomli_w.dumps(value), "utf-8", errors="surrogatepass")
    except (TypeError, AttributeError):  # TOML has no null, and its top is a table.
        path.write_text(f"model = {str(value)[:40]!r}", "utf-8")
    return where


def _toml_raw(path: Path, random_source: random.Random) -> str:
    raw = random_source.choice(
        ("x = " + "[" * 50_000, "x = nan", "[model", "x = {" * 5_000, "a." * 5_000 + "b = 1", "\x00")
    )
    path.write_text(path.read_text("utf-8") + "\n" + raw, "utf-8")
    return raw[:10]


# A safetensors file is eight bytes for the length of a JSON header, the header and the tensors.


def _header_length(path: Path, random_source: random.Random) -> str:
    length = random_source.choice((0, 1, 2**20, 2**31, 2**60, 2**63 - 1, 2**64 - 1))
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    return str(length)


def _header(path: Path, random_source: random.Random) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tensors = content[8 + length :]
    kind = random_source.choice(("value", "key", "shape", "type", "name"))
    name = random_source.choice(sorted(key for key in header if key != "__metadata__"))
    if kind == "value":
        header = _changed(header, random_source)[1]
    elif kind == "key":
        _key(header, random_source)
    elif kind == "shape":
        header[name]["shape"] = random_source.choice(
            ([], [2**40], header[name]["shape"][::-1], [1, *header[name]["shape"]])
        )
    elif kind == "type":
        header[name]["dtype"] = random_source.choice(("F16", "F64", "I32", "I64", "U8", "BOOL", "F8_E5M2", "X"))
    else:
        header[name + "x"] = header.pop(name)
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + tensors)
    return kind


def _remove_checksums(checkpoint: Path) -> None:
    """Remove the checksums, as in old checkpoints, so that the tensors themselves are checked."""
    state = json.loads((checkpoint / "state.json").read_text("utf-8"))
    state.pop("crc32", None)
    state.pop("files", None)
    (checkpoint / "state.json").write_text(json.dumps(state), "utf-8")
