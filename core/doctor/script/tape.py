"""The tape of a loss: the functions that a script called from the model's outputs to backward(), to call them again.

tape_recorder makes it. The functions inside the model are not on the tape.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.nested import Path, at, mapped


class TapeError(Exception):
    """The loss cannot be replayed; the message is the reason."""


@dataclass(frozen=True)
class Output:
    """A tensor in what the model's call number `call` returned."""

    call: int
    path: Path


@dataclass(frozen=True)
class Input:
    """A tensor in the arguments (args, kwargs) of the model's call number `call`."""

    call: int
    path: Path


@dataclass(frozen=True)
class Result:
    """A tensor in what the function of an entry returned."""

    entry: int
    path: Path


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer of module number `module`."""

    module: int
    name: str


@dataclass(frozen=True)
class Attribute:
    """A tensor that the forward of a part of module number `module` left in an attribute, such as a router's loss."""

    module: int
    part: str
    name: str


@dataclass(frozen=True)
class Constant:
    """A tensor from elsewhere, such as the targets: number `index` of the tape's snapshots."""

    index: int


Reference = Output | Input | Result | Weight | Attribute | Constant


@dataclass(frozen=True)
class Entry:
    """One call of a function of torch, or call number `call` of a module. args, kwargs: with references.

    module: the number of the module that is called.
    autocast: the dtype of autocast at this call, None if it was off. gradients: whether gradients were on.
    scalar: whether all tensors among the arguments have no dimensions.
    """

    function: Callable[..., Any] | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    autocast: torch.dtype | None
    gradients: bool
    scalar: bool
    call: int = -1
    module: int = -1

    @property
    def name(self) -> str:
        """The function's name, such as "cross_entropy"; empty for a call of the model."""
        return getattr(self.function, "__name__", "")

    @property
    def in_place(self) -> bool:
        """Whether the call changes one of its arguments."""
        name = self.name
        if name == "requires_grad_":  # It changes no value.
            return False
        return (name.endswith("_") and not name.endswith("__")) or name in _IN_PLACE or "out" in self.kwargs

    @property
    def references(self) -> list[Reference]:
        """The tensors among its arguments."""
        return list(references_in((self.args, self.kwargs)))


_IN_PLACE = frozenset({
    "__set__", "__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ior__", "__iand__", "__ixor__",
})  # fmt: skip
Inputs = Mapping[int, tuple[tuple[Any, ...], dict[str, Any]]]
"""args and kwargs of the model's calls, by the number of the call."""


@dataclass(frozen=True)
class Tape:
    """entries: in order, by number, those that the loss depends on. result: the loss. snapshots: by their number."""

    entries: dict[int, Entry]
    result: Reference
    snapshots: dict[int, Tensor] = field(default_factory=dict)

    @property
    def calls(self) -> list[int]:
        """The numbers of the calls of the model that the loss depends on."""
        return [entry.call for entry in self.entries.values() if entry.function is None]

    @property
    def used_inputs(self) -> set[int]:
        """The numbers of the calls whose arguments it uses."""
        references = [self.result, *(r for entry in self.entries.values() for r in entry.references)]
        return {reference.call for reference in references if isinstance(reference, Input)}

    @property
    def functions(self) -> list[Entry]:
        """The entries without the calls of the model."""
        return [entry for entry in self.entries.values() if entry.function is not None]

    @property
    def is_output(self) -> bool:
        """Whether the loss is in the model's output, changed by arithmetic on scalars at most."""
        return all(entry.scalar for entry in self.functions)

    @property
    def differentiates(self) -> bool:
        """Whether it calls torch.autograd.grad, as a gradient penalty or a physics-informed loss does."""
        return any(entry.function is torch.autograd.grad for entry in self.functions)

    @property
    def outputs(self) -> list[Output]:
        """The tensors that it takes from what the model's calls return."""
        references = [self.result, *(r for entry in self.functions for r in entry.references)]
        return [reference for reference in references if isinstance(reference, Output)]

    def replay(
        self,
        modules: Sequence[nn.Module],
        inputs: Inputs,
        output: Any = None,
        constants: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Return the loss. Raises what the functions raise.

        output: what the only call of the model returned; None: the modules are called.
        constants: in place of snapshots with the same numbers.
        """
        return _Replay(self, modules, inputs, output, {**self.snapshots, **(constants or {})}).loss()


class _Replay:
    """Calls the functions of a tape in their order."""

    def __init__(
        self, tape: Tape, modules: Sequence[nn.Module], inputs: Inputs, output: Any, snapshots: Mapping[int, Tensor]
    ) -> None:
        self._tape = tape
        if tape.differentiates:  # Maybe with respect to what the model got.
            leaf = _Leaves().of
            snapshots = mapped(dict(snapshots), leaf)
            inputs = mapped(dict(inputs), leaf)
        self._snapshots = snapshots
        self._modules = modules
        self._inputs = inputs
        self._output = output
        self._outputs: dict[int, Any] = {}
        self._results: dict[int, Any] = {}
        self._weights: dict[int, dict[str, Tensor]] = {}
        self._constants: dict[int, Tensor] = {}
        self._device = device_of(modules)
        self._changes = any(entry.in_place for entry in tape.entries.values())

    def loss(self) -> Tensor:
        for number, entry in self._tape.entries.items():
            if entry.function is None:
                self._outputs[entry.call] = self._called(entry)
                continue
            args, kwargs = resolved((entry.args, entry.kwargs), self._value)
            with _mode_of(entry, self._device):
                self._results[number] = entry.function(*args, **kwargs)
        loss: Tensor = self._value(self._tape.result)
        return loss

    def _called(self, entry: Entry) -> Any:
        if self._output is not None:
            return self._output
        args, kwargs = resolved((entry.args, entry.kwargs), self._value)
        with _mode_of(entry, self._device):
            return self._modules[entry.module](*args, **kwargs)

    def _value(self, reference: Reference) -> Any:
        match reference:
            case Output(call, path):
                return at(self._outputs[call], path)
            case Input(call, path):
                tensor = at(self._inputs[call], path)
                return tensor.clone() if self._changes else tensor
            case Result(entry, path):
                return at(self._results[entry], path)
            case Weight(module, name):
                if module not in self._weights:
                    self._weights[module] = named_tensors(self._modules[module])
                return self._weights[module][name]
            case Attribute(module, part, name):
                return getattr(self._modules[module].get_submodule(part), name)
            case Constant(index):
                if index not in self._constants:
                    snapshot = self._snapshots[index].to(self._device)
                    self._constants[index] = snapshot.clone() if self._changes else snapshot
                return self._constants[index]


class _Leaves:
    """Gives each float tensor a copy with gradients: the same one wherever it occurs."""

    def __init__(self) -> None:
        self._copies: dict[Any, Tensor] = {}

    def of(self, tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        key = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
        if key not in self._copies:
            self._copies[key] = tensor.detach().clone().requires_grad_()
        return self._copies[key]


@contextlib.contextmanager
def _mode_of(entry: Entry, device: torch.device) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if not entry.gradients:
            stack.enter_context(torch.no_grad())
        if entry.autocast is not None:
            stack.enter_context(torch.autocast(device.type, entry.autocast, cache_enabled=False))
        yield


def device_of(modules: Sequence[nn.Module]) -> torch.device:
    """Return the device of the first parameter."""
    return next((p.device for module in modules for p in module.parameters()), torch.device("cpu"))


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of autocast on a device, None if it is off."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def references_in(value: Any) -> Iterator[Reference]:
    """Yield the references in the arguments of an entry."""
    if isinstance(value, Reference):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from references_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references_in(item)
    elif isinstance(value, slice):
        yield from references_in((value.start, value.stop, value.step))


def resolved(value: Any, resolve: Callable[[Reference], Any]) -> Any:
    """Return the arguments of an entry with `resolve` applied to every reference."""
    if isinstance(value, Reference):
        return resolve(value)
    if isinstance(value, tuple):
        items = [resolved(item, resolve) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [resolved(item, resolve) for item in value]
    if isinstance(value, Mapping):
        return {name: resolved(item, resolve) for name, item in value.items()}
    if isinstance(value, slice):
        return slice(*(resolved(part, resolve) for part in (value.start, value.stop, value.step)))
    return value
