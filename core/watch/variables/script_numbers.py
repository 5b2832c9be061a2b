"""The numbers that the variables of a script hold, read without running its code."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from tui_lab.core.watch.variables.script_objects import MAX_OBJECTS, stored

MAX_DEPTH = 3


def numbers_in(namespaces: Iterable[Mapping[str, Any]]) -> Iterator[float]:
    """Yield the floats among the variables, in the dicts and objects that these hold, and the last one of each list."""
    level: list[Any] = [dict(namespace) for namespace in namespaces]
    visited: set[int] = set()
    for _ in range(MAX_DEPTH):
        following: list[Any] = []
        for owner in level:
            if id(owner) in visited or len(visited) >= MAX_OBJECTS:
                continue
            visited.add(id(owner))
            for value in islice(stored(owner).values(), MAX_OBJECTS):
                last = value[-1] if type(value) in (list, tuple) and value else value
                if _is_float(last):
                    yield float(last)
                elif type(last) is dict or type(last).__module__ != "builtins":
                    following.append(last)
        level = following


def variables_in(namespaces: Iterable[Mapping[str, Any]]) -> Iterator[float]:
    """Yield the variables themselves that are floats or tensors with one. Waits for these tensors."""
    for namespace in namespaces:
        for value in list(namespace.values()):
            is_scalar = type(value) is Tensor and value.dim() == 0 and value.is_floating_point()
            if is_scalar or _is_float(value):
                yield float(value.detach() if is_scalar else value)


def _is_float(value: Any) -> bool:
    return type(value) is float or isinstance(value, np.floating)
