"""The tape of a loss: the functions that a script called from the model's outputs to backward(), to call them again.

A TorchFunctionMode (torch.overrides) sees every function of torch that user code calls. It is active between the
return of the model and backward(), so the functions inside the model are not on the tape.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.script.places import Path, at, replaced, tensors_in

MAX_ENTRIES = 3000
"""A script that calls so many functions for one loss evaluates something, or cannot be replayed in a short time."""
MAX_CALLS = 128
"""Calls of modules for one loss, as in a loop over the positions of a row; an evaluation with gradients makes more."""
MAX_SNAPSHOT_BYTES = 512 * 2**20
_PROPERTIES = frozenset(
    {"shape", "dtype", "device", "requires_grad", "grad_fn", "is_leaf", "ndim", "layout", "is_cuda"}
)
_READ_ONLY = frozenset({
    "size", "dim", "numel", "nelement", "item", "tolist", "numpy", "__len__", "__repr__", "__format__", "__hash__",
    "is_floating_point", "stride", "storage_offset", "data_ptr", "is_contiguous", "backward", "register_hook",
    "retain_grad", "get_device", "element_size", "__contains__", "__bool__", "__float__", "__int__", "__index__",
})  # fmt: skip
"""Functions that return no tensor and change none; what they returned is a literal in later calls."""


_RANDOM = frozenset({
    "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial", "normal", "poisson", "normal_", "uniform_",
    "bernoulli_", "random_", "exponential_", "log_normal_", "geometric_", "cauchy_",
})  # fmt: skip
"""Functions without gradients whose results are kept, since they would draw other numbers."""


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


class TapeRecorder(TorchFunctionMode):
    """Records the calls of the model and what follows them, until `finish`.

    It must not disturb a script: where another mode is on top of it, it stays where it is and only passes calls on.
    """

    def __init__(self, modules: list[nn.Module] | None = None) -> None:
        """modules: those that were called before, whose numbers stay; new ones are added to the list."""
        super().__init__()
        self.modules = [] if modules is None else modules
        self.outputs: dict[int, Any] = {}
        """What each call returned."""
        self.problem = ""
        """Why the tape is not complete; empty if it is."""
        self.arguments: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        """The arguments of each entry. They keep the tensors alive, so that their ids stay theirs."""
        self._results: dict[int, Any] = {}
        self._entries: dict[int, Entry] = {}
        self._references: dict[int, Reference] = {}
        self._fresh: list[Tensor] = []
        """Tensors without a reference, kept alive so that their ids stay theirs."""
        self._snapshots: dict[int, Tensor] = {}
        self._with_history: set[int] = set()
        """Numbers of snapshots of tensors that depend on weights in a way that was not seen."""
        self._bytes = 0
        self._calls: dict[int, int] = {}
        """The entry of each call of the model."""
        self._paused = False
        self._active = False
        self._done = False
        self._device = device_of(self.modules)
        for number, module in enumerate(self.modules):
            self._add_weights(number, module)

    # The mode on torch's stack

    def begin(self) -> None:
        """Start to see functions, unless the script itself uses such a mode."""
        if _has_own_mode():
            self.problem = "the script uses a TorchFunctionMode"
            return
        self.__enter__()  # type: ignore[no-untyped-call]
        self._active = True

    def close(self) -> bool:
        """Stop to see functions; return whether that was possible."""
        self._done = True
        if not self._active:
            return True
        n = torch._C._len_torch_function_stack()
        if n == 0 or torch._C._get_function_stack_at(n - 1) is not self:
            return not any(torch._C._get_function_stack_at(i) is self for i in range(n))
        self.__exit__(None, None, None)
        self._active = False
        return True

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._done or self._paused or self.problem or _is_ignored(func):
            return func(*args, **kwargs)
        if len(self._entries) >= MAX_ENTRIES:
            self._give_up("the script calls too many functions between the model and backward()")
            return func(*args, **kwargs)
        if getattr(func, "__name__", "") in _RANDOM or next(tensors_in((args, kwargs)), None) is None:
            return self._new(func(*args, **kwargs))
        number = self._add(func, args, kwargs)
        result = func(*args, **kwargs)
        if number is not None:
            self._results[number] = result
            for path, tensor in tensors_in(result):
                self._references[id(tensor)] = Result(number, path)
        return result

    def _new(self, result: Any) -> Any:
        """Return a result that does not depend on other tensors: a copy of it is kept when it is used."""
        for _, tensor in tensors_in(result):
            self._references.pop(id(tensor), None)
            self._fresh.append(tensor)
        return result

    # The calls of the model

    def called(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """A module is called with gradients; nothing is recorded until `returned`. Return the number of the call."""
        if self._done or self.problem:
            return -1
        self._paused = True
        call = len(self._calls)
        if call >= MAX_CALLS:
            self._give_up("the model is called too often for one loss")
            return -1
        if not any(module is other for other in self.modules):
            self.modules.append(module)
            self._device = device_of(self.modules)
            self._add_weights(len(self.modules) - 1, module)
        for path, tensor in tensors_in((args, kwargs)):
            if isinstance(self._references.get(id(tensor)), Input | None):
                self._references[id(tensor)] = Input(call, path)
        number = next(i for i, other in enumerate(self.modules) if other is module)
        entry = self._add(None, args, kwargs, call, number)
        if entry is not None:
            self._calls[call] = entry
        return call

    def returned(self, output: Any) -> None:
        """The module returned `output`."""
        self._paused = False
        if self._done or self.problem:
            return
        call = len(self._calls) - 1
        self.outputs[call] = output
        for path, tensor in tensors_in(output):
            self._references[id(tensor)] = Output(call, path)

    def number_of(self, call: int) -> int:
        """Return the number of the module of a call."""
        return self._entries[self._calls[call]].module

    def _add_weights(self, number: int, module: nn.Module) -> None:
        for name, tensor in named_tensors(module).items():
            self._references.setdefault(id(tensor), Weight(number, name))

    def _give_up(self, problem: str) -> None:
        """Forget everything, so that no memory is held."""
        self.problem = problem
        self._entries = {}
        self._references = {}
        self._snapshots = {}
        self._fresh = []
        self._results = {}
        self.arguments = {}
        self.outputs = {}

    # Entries

    def _add(
        self,
        function: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call: int = -1,
        module: int = -1,
    ) -> int | None:
        """Add an entry and return its number; None if that is not possible, and then `problem` is set."""
        try:
            tensors = [tensor for _, tensor in tensors_in((args, kwargs))]
            entry = Entry(
                function,
                replaced(args, self._reference),
                replaced(kwargs, self._reference),
                autocast_dtype(self._device),
                torch.is_grad_enabled(),
                bool(tensors) and all(tensor.dim() == 0 for tensor in tensors),
                call,
                module,
            )
        except Exception as error:  # Whatever it is, the script must run.
            self._give_up(str(error) if isinstance(error, TapeError) else f"{type(error).__name__}: {error}")
            return None
        number = len(self._entries)
        self._entries[number] = entry
        self.arguments[number] = (args, kwargs)
        return number

    def _reference(self, tensor: Tensor) -> Reference:
        """Return where a tensor comes from; a copy of it is kept if it is from elsewhere."""
        reference = self._references.get(id(tensor))
        if reference is None:
            reference = self._attribute(tensor) or Constant(len(self._snapshots))
            if isinstance(reference, Constant):
                self._keep(reference.index, tensor)
            self._references[id(tensor)] = reference
        return reference

    def _keep(self, index: int, tensor: Tensor) -> None:
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes > MAX_SNAPSHOT_BYTES:
            raise TapeError("the loss uses too much memory beyond the model's output")
        self._snapshots[index] = tensor.detach().clone()
        if tensor.grad_fn is not None:
            self._with_history.add(index)

    def _attribute(self, tensor: Tensor) -> Attribute | None:
        if tensor.grad_fn is None:
            return None
        for number, module in enumerate(self.modules):
            for part_name, part in module.named_modules():
                for name, value in vars(part).items():
                    if value is tensor:
                        return Attribute(number, part_name, name)
        return None

    def finish(self, loss: Tensor) -> Tape:
        """Return the tape of `loss`. Raises TapeError."""
        self._done = True
        if self.problem:
            raise TapeError(self.problem)
        if not self._calls:
            raise TapeError("the loss was computed without a call of the model")
        result = self._references.get(id(loss))
        if result is None:
            raise TapeError("the loss comes from a function that torch does not show, such as an autograd.Function")
        entries = {number: self._entries[number] for number in self._needed(result)}
        if any(self._is_hidden(number) for number in entries):
            raise TapeError("the loss uses an autograd.Function, which torch does not show")
        references = [result, *(r for entry in entries.values() for r in entry.references)]
        if not any(isinstance(r, Output | Attribute) for r in references):
            raise TapeError("the loss does not depend on what the model returned, as far as torch shows")
        constants = {r.index for r in references if isinstance(r, Constant)}
        if constants & self._with_history:
            raise TapeError("the loss uses a tensor that depends on weights in a way that torch does not show")
        return Tape(entries, result, {index: self._snapshots[index] for index in sorted(constants)})

    def _is_hidden(self, number: int) -> bool:
        """Whether an entry was called by an autograd.Function, which has a gradient of its own."""
        tensors = [tensor for _, tensor in tensors_in(self._results.get(number))]
        return not self._entries[number].gradients and any(tensor.grad_fn is not None for tensor in tensors)

    def _needed(self, result: Reference) -> list[int]:
        """Return the numbers of the entries that the result depends on; all if some change tensors in place."""
        last = self._number(result)
        if any(self._entries[number].in_place for number in range(last + 1)):
            return list(range(last + 1))
        wanted = {last}
        for number in range(last, -1, -1):
            if number in wanted:
                wanted |= {self._number(reference) for reference in self._entries[number].references}
        return sorted(wanted - {-1})

    def _number(self, reference: Reference) -> int:
        """Return the entry that gave a tensor; -1 if it is from elsewhere."""
        match reference:
            case Result(entry):
                return entry
            case Output(call):
                return self._calls[call]
            case Attribute():
                return max(self._calls.values())
        return -1


def _is_ignored(function: Callable[..., Any]) -> bool:
    """Whether a function neither returns a tensor nor changes one."""
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return getattr(getattr(function, "__self__", None), "__name__", "") in _PROPERTIES
    return name in _READ_ONLY


def _has_own_mode() -> bool:
    """Whether the script uses a TorchFunctionMode other than that of torch.set_default_device."""
    n = torch._C._len_torch_function_stack()
    modes = [torch._C._get_function_stack_at(i) for i in range(n)]
    return any(type(mode).__name__ != "DeviceContext" for mode in modes)
