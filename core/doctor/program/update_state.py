"""What an update keeps between its calls: counters, schedules, a GradScaler. Trials begin with it as it was."""

import functools
import random
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.program.copies import global_names
from tui_lab.core.user_code.user_files import is_user_code

MAX_OBJECTS = 20_000
MAX_DEPTH = 8
MAX_ELEMENTS = 2**20
"""Elements of a tensor that is remembered; larger ones are taken for data."""
_CONSTANT = (int, float, complex, str, bytes, type, types.ModuleType, types.BuiltinFunctionType, types.CodeType, range)


class UpdateState:
    """Remembers the state that functions reach, and restores it in place.

    Followed are closures, bound objects, defaults and the globals that code of the user names; containers and the
    attributes of objects. Not restored are iterators, and attributes of classes.
    """

    def __init__(self, functions: Iterable[Any], exclude: Iterable[Any] = ()) -> None:
        """exclude: objects that somebody else restores; nothing that they hold is followed."""
        self._undo: list[Callable[[], object]] = []
        self._visited: dict[int, Any] = {id(obj): obj for obj in exclude}
        stack = [(function, 0) for function in functions]
        while stack and len(self._visited) < MAX_OBJECTS:
            value, depth = stack.pop()
            if isinstance(value, _CONSTANT) or value is None or id(value) in self._visited or depth > MAX_DEPTH:
                continue
            self._visited[id(value)] = value
            stack += [(part, depth + 1) for part in self._remember(value)]

    def restore(self) -> None:
        """Give everything its remembered value."""
        for undo in self._undo:
            undo()

    def _remember(self, value: Any) -> Iterator[Any]:
        """Remember what `value` itself holds, and yield what it refers to."""
        if isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, functools.partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, dict):
            self._mapping(value)
            yield from list(value.values())
        elif isinstance(value, list | deque):
            self._sequence(value)
            yield from list(value)
        elif isinstance(value, tuple):
            yield from value
        elif isinstance(value, set | torch.Generator | random.Random):
            self._small(value)
        elif isinstance(attributes := getattr(value, "__dict__", None), dict):
            self._mapping(attributes)
            yield from list(attributes.values())

    def _function(self, function: types.FunctionType) -> Iterator[Any]:
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:  # Its variable has not been assigned yet.
                continue
            self._undo.append(functools.partial(setattr, cell, "cell_contents", content))
            yield content
        yield from function.__defaults__ or ()
        if is_user_code(function.__code__.co_filename):
            space = function.__globals__
            for name in global_names(function.__code__) & space.keys():
                self._undo.append(functools.partial(space.__setitem__, name, space[name]))
                yield space[name]

    def _tensor(self, tensor: Tensor) -> None:
        if tensor.numel() > MAX_ELEMENTS or tensor.layout != torch.strided:
            return
        values = tensor.detach().clone()

        def undo() -> None:
            with torch.no_grad():
                if tensor.shape == values.shape:
                    tensor.copy_(values)

        self._undo.append(undo)

    def _mapping(self, mapping: dict[Any, Any]) -> None:
        items = dict(mapping)

        def undo() -> None:
            for key in mapping.keys() - items.keys():
                del mapping[key]
            mapping.update(items)

        self._undo.append(undo)

    def _sequence(self, sequence: list[Any] | deque[Any]) -> None:
        items = list(sequence)

        def undo() -> None:
            sequence.clear()
            sequence.extend(items)

        self._undo.append(undo)

    def _small(self, value: "set[Any] | torch.Generator | random.Random") -> None:
        if isinstance(value, torch.Generator):
            self._undo.append(functools.partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random):
            self._undo.append(functools.partial(value.setstate, value.getstate()))
        else:
            self._undo += [value.clear, functools.partial(value.update, set(value))]
