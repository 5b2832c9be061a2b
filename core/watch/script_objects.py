"""What the variables of a script keep, without running code of the script."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

MAX_OBJECTS = 5000
MAX_DEPTH = 2


def objects_in(variables: dict[str, Any]) -> Iterator[Any]:
    """The variables together as a dict, their values, and what these keep in their attributes, without properties."""
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
            following += [part for part in parts if type(part) is dict or type(part).__module__ != "builtins"]
        level = following


def stored(obj: Any) -> dict[Any, Any]:
    """The entries of a dict with names, or the attributes of an instance; empty for anything else."""
    kind = type(obj)
    if kind is dict:
        return obj if len(obj) <= MAX_OBJECTS and all(type(key) is str for key in obj) else {}
    if kind.__module__ == "builtins" or issubclass(kind, type):
        return {}
    try:
        return dict(object.__getattribute__(obj, "__dict__"))
    except (AttributeError, TypeError):
        return {}
