"""Places of tensors in nested values: arguments, batches, and what models return."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class Key:
    """One step into a value: value[name] or value.name."""

    kind: Literal["item", "attribute"]
    name: Any


Path = tuple[Key, ...]
MAX_DEPTH = 6


def tensors_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in a value with its place, in order; objects with attributes are looked into, too."""
    if isinstance(value, Tensor):
        yield path, value
        return
    if len(path) >= MAX_DEPTH:
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from tensors_in(item, (*path, Key("item", name)))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from tensors_in(item, (*path, Key("item", i)))
    elif _is_record(value):
        for name, item in vars(value).items():
            yield from tensors_in(item, (*path, Key("attribute", name)))


def at(value: Any, path: Path) -> Any:
    """Return what is at `path` in a value. Raises LookupError or AttributeError if there is no such place."""
    for key in path:
        value = value[key.name] if key.kind == "item" else getattr(value, key.name)
    return value


def with_value(value: Any, path: Path, new: Any) -> Any:
    """Return a shallow copy of a value with `new` at `path`."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    if key.kind == "attribute":
        changed = copy.copy(value)
        object.__setattr__(changed, key.name, with_value(getattr(value, key.name), rest, new))
        return changed
    item = with_value(value[key.name], rest, new)
    if isinstance(value, tuple):
        items = [item if i == key.name else old for i, old in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    changed = copy.copy(value)
    changed[key.name] = item
    return changed


def only(value: Any, path: Path) -> Any:
    """Return an object that has `value` at `path`, and nothing else."""
    for key in reversed(path):
        value = {key.name: value} if key.kind == "item" else SimpleNamespace(**{key.name: value})
    return value


def replaced(value: Any, function: Callable[[Tensor], Any], depth: int = 0) -> Any:
    """Return a copy of a value with `function` applied to every tensor in it."""
    if isinstance(value, Tensor):
        return function(value)
    if depth >= MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        items = {name: replaced(item, function, depth + 1) for name, item in value.items()}
        if type(value) is dict:
            return items
        changed: Any = copy.copy(value)  # Such as the BatchEncoding of transformers.
        for name, item in items.items():
            changed[name] = item
        return changed
    if isinstance(value, tuple):
        parts = [replaced(item, function, depth + 1) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [replaced(item, function, depth + 1) for item in value]
    if isinstance(value, slice):
        return slice(*(replaced(part, function, depth + 1) for part in (value.start, value.stop, value.step)))
    if _is_record(value):
        changed = copy.copy(value)
        for name, item in vars(value).items():
            object.__setattr__(changed, name, replaced(item, function, depth + 1))
        return changed
    return value


def _is_record(value: Any) -> bool:
    """Whether a value is an object that may hold a batch or an output: a dataclass, or one with tensor attributes."""
    attributes = getattr(value, "__dict__", None)
    if not attributes or isinstance(value, type) or callable(value):
        return False
    return dataclasses.is_dataclass(value) or any(isinstance(item, Tensor) for item in attributes.values())
