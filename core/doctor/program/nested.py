"""Tensors in nested values: in batches, in arguments, and in what models return.

Looked into are tuples, lists, mappings, dataclasses, and objects of which an attribute is a tensor, unless they say
`is_no_batch`: what a script's step keeps beside its batch may have as many rows by chance.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

from torch import Tensor, nn


@dataclass(frozen=True)
class Key:
    """One step into a value: value[name] or value.name."""

    kind: Literal["item", "attribute"]
    name: Any


Path = tuple[Key, ...]
MAX_DEPTH = 6


def tensors_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, Tensor]]:
    """Yield every tensor in a value with its place, in order."""
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
    else:
        for name, item in _attributes(value).items():
            yield from tensors_in(item, (*path, Key("attribute", name)))


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in a value, in order."""
    yield from (tensor for _, tensor in tensors_in(value))


def at(value: Any, path: Path) -> Any:
    """Return what is at `path` in a value. Raises LookupError or AttributeError if there is no such place."""
    for key in path:
        value = value[key.name] if key.kind == "item" else getattr(value, key.name)
    return value


def with_value(value: Any, path: Path, new: Any) -> Any:
    """Return a shallow copy of a value with `new` at `path`."""
    if not path:
        return new
    key = path[0]
    rest = path[1:]
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


def mapped(value: Any, function: Callable[[Tensor], Any], depth: int = 0) -> Any:
    """Return a value of the same form with `function` applied to every tensor in it; what else it holds stays."""
    if isinstance(value, Tensor):
        return function(value)
    if depth >= MAX_DEPTH:
        return value
    inner = partial(mapped, function=function, depth=depth + 1)
    if isinstance(value, Mapping):
        items = {name: inner(item) for name, item in value.items()}
        if type(value) is dict:
            return items
        changed: Any = copy.copy(value)  # Such as the BatchEncoding of transformers.
        for name, item in items.items():
            changed[name] = item
        return changed
    if isinstance(value, list | tuple):
        parts = [inner(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if isinstance(value, slice):
        return slice(inner(value.start), inner(value.stop), inner(value.step))
    attributes = _attributes(value)
    if not attributes:
        return value
    changed = copy.copy(value)
    for name, item in attributes.items():
        object.__setattr__(changed, name, inner(item))
    return changed


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that may hold a batch or an output; {} for any other value."""
    if isinstance(value, type) or getattr(value, "is_no_batch", False):
        return {}
    if dataclasses.is_dataclass(value) and not isinstance(value, nn.Module):
        names = (field.name for field in dataclasses.fields(value))
        return {name: getattr(value, name) for name in names if hasattr(value, name)} | getattr(value, "__dict__", {})
    attributes: dict[str, Any] = getattr(value, "__dict__", {})
    holds_tensor = not callable(value) and any(isinstance(item, Tensor) for item in attributes.values())
    return attributes if holds_tensor else {}
