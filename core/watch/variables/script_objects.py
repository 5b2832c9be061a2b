"""Finds objects of a script without running its code: what its variables keep, and all objects of a class."""

import gc
from collections.abc import Iterator
from itertools import islice
from types import FunctionType
from typing import Any, TypeVar

MAX_OBJECTS = 5000
MAX_DEPTH = 3
T = TypeVar("T")


def instances_of(kind: type[T]) -> list[T]:
    """Return all objects of a class, or of one derived from it, that the garbage collector of this process knows.

    They are found by type: isinstance would ask objects for their __class__, which proxies answer with code.
    """
    return [obj for obj in gc.get_objects() if issubclass(type(obj), kind)]


def objects_in(variables: dict[str, Any]) -> Iterator[Any]:
    """Yield the variables together as a dict, their values, and what these keep, as `stored` has it."""
    visited: set[int] = set()
    level: list[Any] = [variables]
    for _ in range(MAX_DEPTH + 2):
        following: list[Any] = []
        for obj in level:
            if id(obj) in visited or len(visited) >= MAX_OBJECTS:
                continue
            visited.add(id(obj))
            yield obj
            parts = islice(stored(obj).values(), MAX_OBJECTS)
            following += [part for part in parts if _may_keep(part)]
        level = following


def stored(obj: Any) -> dict[Any, Any]:
    """Return the entries of a dict with names, the attributes of an instance, or the enclosed variables of a function.

    Empty for anything else; no property is read.
    """
    kind = type(obj)
    if kind is FunctionType:
        return _enclosed(obj)
    if kind is dict:
        return obj if len(obj) <= MAX_OBJECTS and all(type(key) is str for key in obj) else {}
    if kind.__module__ == "builtins" or issubclass(kind, type):
        return {}
    try:
        return dict(object.__getattribute__(obj, "__dict__"))
    except (AttributeError, TypeError):
        return {}


def _may_keep(part: Any) -> bool:
    kind = type(part)
    return kind is dict or kind.__module__ != "builtins" or (kind is FunctionType and part.__closure__ is not None)


def _enclosed(function: FunctionType) -> dict[Any, Any]:
    """Return what a function uses of the variables of the function around it; those not set are left out."""
    enclosed = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            enclosed[name] = cell.cell_contents
        except ValueError:
            continue
    return enclosed
