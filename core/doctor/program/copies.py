"""Copies for trials: a deep copy whose functions refer to the copy, and a test that it stands alone.

copy.deepcopy copies no functions, so a lambda that a module keeps still calls the parts of the original.
"""

import copy
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.kernels.autograd_graph import graph_leaves
from tui_lab.core.user_code.import_file import LIBRARIES

MAX_DEPTH = 6
"""How deep closures, globals and attributes are followed in search of the model."""


class Copies:
    """Copies of a model and its optimizers, and functions that use them in place of the originals."""

    def __init__(self, model: nn.Module, optimizers: list[Optimizer]) -> None:
        """Copy both. Raises whatever copy.deepcopy raises for something that cannot be copied."""
        self._memo: dict[int, Any] = {}
        self._keep_generators_and_results(model)
        self.model, self.optimizers = copy.deepcopy((model, optimizers), self._memo)
        for own, other in zip(optimizers, self.optimizers, strict=True):
            # torch copies only groups and state. Schedulers wrap the step of the original, which they are bound to.
            for name, value in vars(own).items():
                if name not in vars(other) and name != "step":
                    setattr(other, name, self.rebound(value) if callable(value) else copy.deepcopy(value, self._memo))
        copied = (*self.model.modules(), *self.model.parameters(), *self.model.buffers())
        self._copied = {id(part) for part in copied}
        for module in self.model.modules():
            for name, value in list(vars(module).items()):
                if name not in ("_parameters", "_buffers", "_modules"):
                    self._rebind(module, name, value)

    def _keep_generators_and_results(self, model: nn.Module) -> None:
        """Copy the attributes that deepcopy refuses: generators, and tensors that a forward pass computed."""
        for module in model.modules():
            for value in vars(module).values():
                if isinstance(value, torch.Generator):
                    self._remember(value, torch.Generator(value.device).set_state(value.get_state()))
                elif isinstance(value, Tensor) and value.grad_fn is not None:
                    self._remember(value, value.detach().clone())

    def _remember(self, original: Any, copied: Any) -> None:
        self._memo[id(original)] = copied
        # An id is valid only while its object lives; deepcopy keeps its own in the same list.
        self._memo.setdefault(id(self._memo), []).append(original)

    def _rebind(self, module: nn.Module, name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, item in list(value.items()):
                value[key] = self._own(item)
        elif isinstance(value, list):
            value[:] = [self._own(item) for item in value]
        elif (own := self._own(value)) is not value:
            object.__setattr__(module, name, own)

    def _own(self, value: Any) -> Any:
        """Return a module's own function, rebound; what else it refers to is copied as well."""
        if not isinstance(value, types.FunctionType | functools.partial):
            return value
        for part in _referenced(value):
            if isinstance(part, nn.Module | Tensor) and id(part) not in self._memo and id(part) not in self._copied:
                copy.deepcopy(part, self._memo)
        return self.rebound(value)

    def rebound(self, value: Any) -> Any:
        """Return `value`, a function or an object, as it would be had it been made for the copies.

        What does not refer to the model or its optimizers is returned unchanged, so its state stays shared.
        """
        return self._rebound(value) if self._refers(value, set(), 0) else value

    def _refers(self, value: Any, visited: set[int], depth: int) -> bool:
        """Return whether `value` leads to something that was copied."""
        if id(value) in self._memo:
            return True
        if id(value) in visited or depth > MAX_DEPTH:
            return False
        visited.add(id(value))
        return any(self._refers(part, visited, depth + 1) for part in _parts(value))

    def _rebound(self, value: Any) -> Any:
        if id(value) in self._memo:
            return self._memo[id(value)]
        if not self._refers(value, set(), 0):
            return value
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self._rebound(value.__self__))
        if isinstance(value, functools.partial):
            named = {key: self._rebound(argument) for key, argument in value.keywords.items()}
            return functools.partial(self._rebound(value.func), *map(self._rebound, value.args), **named)
        if isinstance(value, nn.Module):  # Such as a wrapper of the model.
            return copy.deepcopy(value, self._memo)
        if type(value) in (list, tuple):
            return type(value)(map(self._rebound, value))
        if type(value) is dict:
            return {key: self._rebound(item) for key, item in value.items()}
        return self._object(value)

    def _object(self, value: Any) -> Any:
        """Copy an object that holds the model or an optimizer, such as a scheduler; its other attributes are shared."""
        copied = copy.copy(value)
        self._remember(value, copied)
        for name, attribute in vars(value).items():
            object.__setattr__(copied, name, self._rebound(attribute))
        if isinstance(copied, torch.optim.lr_scheduler.LRScheduler):
            # At its first step a scheduler warns if its optimizer's step is not the method that it wrapped.
            copied._step_count = max(2, copied._step_count)
        return copied

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        space = self._globals(function)
        copied = types.FunctionType(function.__code__, space, function.__name__, function.__defaults__, cells)
        copied.__kwdefaults__ = function.__kwdefaults__
        copied.__dict__.update(function.__dict__)
        self._remember(function, copied)
        for cell, original in zip(cells, function.__closure__ or (), strict=True):
            if (content := _content(original)) is not _EMPTY:
                cell.cell_contents = self._rebound(content)
        if function.__defaults__:
            copied.__defaults__ = tuple(map(self._rebound, function.__defaults__))
        return copied

    def _globals(self, function: types.FunctionType) -> dict[str, Any]:
        """Return the function's globals, with copies for originals."""
        original = function.__globals__
        if not _of_user(function):
            return original
        if id(original) not in self._memo:
            self._remember(original, dict(original))
        space: dict[str, Any] = self._memo[id(original)]
        for name in global_names(function.__code__):
            if name in original and space[name] is original[name]:
                space[name] = self._rebound(original[name])
        return space


_EMPTY: Any = object()


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # Its variable has not been assigned yet.
        return _EMPTY


def _parts(value: Any) -> Iterator[Any]:
    """Yield what a function, container or object refers to directly."""
    if isinstance(value, types.FunctionType):
        yield from (content for cell in value.__closure__ or () if (content := _content(cell)) is not _EMPTY)
        yield from value.__defaults__ or ()
        if _of_user(value):
            yield from (value.__globals__[n] for n in global_names(value.__code__) if n in value.__globals__)
    elif isinstance(value, types.MethodType):
        yield value.__self__
    elif isinstance(value, functools.partial):
        yield value.func
        yield from value.args
        yield from value.keywords.values()
    elif isinstance(value, nn.Module):
        yield from value.children()
        yield from value.parameters(recurse=False)
    elif isinstance(value, list | tuple) and len(value) < 1000:
        yield from value
    elif isinstance(value, dict) and len(value) < 1000:
        yield from value.values()
    elif not isinstance(value, type | types.ModuleType | Tensor | str | bytes | Optimizer):
        yield from getattr(value, "__dict__", {}).values()


def _referenced(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yield what a module's own function refers to through closures, defaults and partial arguments."""
    if isinstance(value, types.FunctionType):
        parts = [content for cell in value.__closure__ or () if (content := _content(cell)) is not _EMPTY]
        parts += value.__defaults__ or ()
    elif isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        parts = []
    for part in parts if depth <= MAX_DEPTH else []:
        yield part
        yield from _referenced(part, depth + 1)


def global_names(code: types.CodeType) -> set[str]:
    """Return the names of globals and attributes that a function and those inside it use."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return names


def _of_user(function: types.FunctionType) -> bool:
    return not function.__code__.co_filename.startswith(LIBRARIES)


def unfaithful(
    original: nn.Module,
    copied: nn.Module,
    run: Callable[[], list[Tensor]],
    run_copied: Callable[[], list[Tensor]],
) -> str:
    """Return why `copied` cannot stand for `original`, or "".

    run, run_copied: give the tensors of the output for one batch, always with the same seed. Propagates their
    exceptions.
    """
    owned = {id(p) for p in original.parameters()}
    places = {t.untyped_storage().data_ptr() for t in (*original.parameters(), *original.buffers()) if t.numel()}
    for name, tensor in (*copied.named_parameters(), *copied.named_buffers()):
        if tensor.numel() and tensor.untyped_storage().data_ptr() in places:
            return f"a copy shares {name} with the model"
    outputs = run_copied()
    if any(id(leaf) in owned for output in outputs for leaf in graph_leaves(output)):
        return "a copy still computes with parameters of the model, which one of its functions refers to"
    with torch.no_grad():
        # Also the copy without gradients: layers of torch have other kernels for that, with other rounding.
        expected = run()
        if not _equal(run_copied(), expected) and _equal(expected, run()):
            return "a copy gives a different output from the model's"
    return ""


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(
        one.shape == other.shape and torch.allclose(one.float(), other.float(), 1e-4, 1e-5, equal_nan=True)
        for one, other in zip(a, b, strict=True)
    )
