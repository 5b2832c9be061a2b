"""What is stored of a contract: the form of JSON values, the fields of events, the signatures of the Python API."""

import inspect
import json
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args

from tui_lab.core import events as ev
from tui_lab.util.exit_codes import NOT_MET

SAMPLES = Path(__file__).parent
RUN = SAMPLES / "run-1"
CONFIG = "runs/one/config.toml"
COMMANDS: dict[str, list[str]] = {
    "run": ["run", CONFIG, "--steps", "20", "--out", "runs/new"],
    "runs ls": ["runs", "ls"],
    "runs show": ["runs", "show", "one"],
    "runs compare": ["runs", "compare", "one", "two"],
    "runs import": ["runs", "import", "old.csv"],
    "explain": ["explain", "one", "--step", "30"],
    "examples": ["examples", "one"],
    "inside": ["inside", "one"],
    "generate": ["generate", "one", "--prompt", "012", "--max-new-tokens", "2"],
    "batch": ["batch", CONFIG],
    "presets": ["presets"],
    "randomness": ["randomness", CONFIG],
    "faults": ["faults"],
    "config show": ["config", "show", CONFIG],
    "data info": ["data", "info", CONFIG],
    "doctor": ["doctor", CONFIG],
    "sweep": ["sweep", CONFIG, "--over", "optim.lr=0.01,0.02", "--steps", "2", "--out", "sweep"],
    "lr-find": ["lr-find", CONFIG, "--low", "1e-3", "--high", "0.5", "--rates", "40"],
    "memory": ["memory", CONFIG, "--measure"],
    "runs trace": ["runs", "trace", "failed"],
}
"""Each command with --json, without that option, in a folder with two copies of the stored run."""
BEFORE: dict[str, list[str]] = {
    "runs trace": ["run", CONFIG, "--set", 'faults=["not_finite"]', "--out", "runs/failed"],
}
"""A command that prepares another one; its exit code does not matter."""
EXIT_CODES = {"runs trace": NOT_MET}
"""Of the commands that do not end with 0."""
SLOW = ("doctor", "sweep", "inside", "examples", "memory")
NOT_PROMISED = ("bench", "learn", "speed")
"""Commands whose JSON may change."""
BY_NAME = ("doctor.seconds",)
"""Tables whose keys are names of the moment, such as those of checks."""

Shape = Any
"""The name of a JSON type; a list with the shape of its items; or a dict of shapes."""


def shape_of(value: Any) -> Shape:
    """Return the shape of a JSON value. Of a list, that of all its items together."""
    if isinstance(value, dict):
        return {key: shape_of(item) for key, item in value.items()}
    if isinstance(value, list):
        items: Shape = None
        for item in value:
            items = shape_of(item) if items is None else _joined(items, shape_of(item))
        return [] if items is None else [items]
    names = {str: "text", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return names[type(value)]


def _joined(a: Shape, b: Shape) -> Shape:
    if isinstance(a, dict) and isinstance(b, dict):
        return {key: _joined(a[key], b[key]) if key in a and key in b else a.get(key, b.get(key)) for key in a | b}
    if isinstance(a, list) and isinstance(b, list):
        return [_joined(a[0], b[0])] if a and b else a or b
    return b if a in ("null", []) else a


def lacking(stored: Shape, now: Shape, place: str = "") -> Iterable[str]:
    """Yield what a reader of the stored shape would miss now. New keys are not a loss; null fits everything."""
    if "null" in (stored, now) or place in BY_NAME:
        return
    if isinstance(stored, dict) and isinstance(now, dict):
        for key, shape in stored.items():
            if key in now:
                yield from lacking(shape, now[key], f"{place}.{key}")
            else:
                yield f"{place}.{key} is missing"
    elif isinstance(stored, list) and isinstance(now, list):
        if stored and now:
            yield from lacking(stored[0], now[0], f"{place}[]")
    elif stored != now:
        yield f"{place} is {now}, and was {stored}"


def shape_of_output(text: str) -> Shape:
    """Return the shape of what a command prints: of one JSON value, or of lines by their event."""
    try:
        return shape_of(json.loads(text))
    except json.JSONDecodeError:
        records = [json.loads(line) for line in text.splitlines()]
    shapes: dict[str, Shape] = {}
    for record in records:
        name = record["event"]
        shapes[name] = _joined(shapes[name], shape_of(record)) if name in shapes else shape_of(record)
    return shapes


def event_fields() -> dict[str, dict[str, list[str]]]:
    """Return the fields of each kind of event: those that it always has, and those that it may lack."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for kind in get_args(get_args(ev.AnyEvent)[0]):
        named = [each for each in fields(kind) if each.name != "kind"]
        is_required = {each.name: each.default is MISSING and each.default_factory is MISSING for each in named}
        kinds[kind.kind] = {
            "required": [name for name, required in is_required.items() if required],
            "optional": [name for name, required in is_required.items() if not required],
        }
    return kinds


def signatures(module: Any) -> list[str]:
    """Return a line for each public name of a module: the parameters of functions, and the parts of classes."""
    lines: list[str] = []
    for name in sorted(module.__all__):
        lines += _described(name, getattr(module, name))
    return lines


def _described(name: str, value: Any) -> Iterable[str]:
    if not callable(value):
        yield f"{name} = {value!r}"
        return
    is_error = inspect.isclass(value) and issubclass(value, BaseException)
    # Python itself makes the signatures of errors and protocols, and changes them.
    if is_error or getattr(value, "_is_protocol", False):
        yield name
    else:
        yield f"{name}({', '.join(_parameters(value))})"
    if not inspect.isclass(value):
        return
    for part in sorted(set(dir(value)) - set(dir(Exception if is_error else object))):
        if part.startswith("_"):
            continue
        member = inspect.getattr_static(value, part)
        function = getattr(member, "__func__", member)
        is_function = inspect.isfunction(function)
        yield f"{name}.{part}({', '.join(_parameters(function))})" if is_function else f"{name}.{part}"


def _parameters(function: Any) -> Iterable[str]:
    for parameter in inspect.signature(function).parameters.values():
        stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
        star = stars.get(parameter.kind, "")
        keyword = "keyword " if parameter.kind is inspect.Parameter.KEYWORD_ONLY else ""
        default = "" if parameter.default is inspect.Parameter.empty else "=…"
        yield f"{keyword}{star}{parameter.name}{default}"
