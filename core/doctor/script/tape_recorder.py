"""Records the tape of a loss while a script runs.

A TorchFunctionMode (torch.overrides) sees every function of torch that user code calls. It is active between the
return of the model and backward().
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.program.nested import mapped, tensors_in
from tui_lab.core.doctor.script.tape import (
    Attribute,
    Constant,
    Entry,
    Input,
    Output,
    Reference,
    Result,
    Tape,
    TapeError,
    Weight,
    autocast_dtype,
    device_of,
    named_tensors,
)

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
            if self._is_data(tensor):
                self._references[id(tensor)] = Input(call, path)
        number = next(i for i, other in enumerate(self.modules) if other is module)
        entry = self._add(None, args, kwargs, call, number)
        if entry is not None:
            self._calls[call] = entry
        return call

    def _is_data(self, tensor: Tensor) -> bool:
        """Return whether an argument of a call depends on nothing that a call returned, so that it may be replaced."""
        reference = self._references.get(id(tensor))
        if isinstance(reference, Result) and (tensor.is_leaf or not tensor.requires_grad):
            entries = (self._entries[number] for number in self._needed(reference))
            return all(
                entry.function is not None and not any(isinstance(r, Output | Attribute) for r in entry.references)
                for entry in entries
            )
        return isinstance(reference, Input | None)

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
                mapped(args, self._reference),
                mapped(kwargs, self._reference),
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
        """Return whether an entry was called by an autograd.Function, which has a gradient of its own."""
        tensors = [tensor for _, tensor in tensors_in(self._results.get(number))]
        return not self._entries[number].gradients and any(tensor.grad_fn is not None for tensor in tensors)

    def _needed(self, result: Reference) -> list[int]:
        """Return the numbers of the entries that the result depends on; all if some change tensors in place."""
        last = self._number(result)
        if any(self._entries[number].in_place for number in range(last + 1)):
            return list(range(last + 1))
        needed = {last}
        for number in range(last, -1, -1):
            if number in needed:
                needed |= {self._number(reference) for reference in self._entries[number].references}
        return sorted(needed - {-1})

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
    """Return whether a function neither returns a tensor nor changes one."""
    name = getattr(function, "__name__", "")
    if name == "__get__":
        return getattr(getattr(function, "__self__", None), "__name__", "") in _PROPERTIES
    return name in _READ_ONLY


def _has_own_mode() -> bool:
    """Return whether the script uses a TorchFunctionMode other than that of torch.set_default_device."""
    n = torch._C._len_torch_function_stack()
    modes = [torch._C._get_function_stack_at(i) for i in range(n)]
    return any(type(mode).__name__ != "DeviceContext" for mode in modes)
