"""Call a script's model as the script does, without a trace: for attention maps and generated text."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.config.script import Parallelism
from tui_lab.core.watch.model.hidden_state import HiddenState, hidden_state
from tui_lab.core.watch.model.model_search import Inputs
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng

Forward = Callable[[Tensor], Any]


@dataclass(frozen=True)
class CallForm:
    """Where a call of the model has x and y: a position or a name, or a key of a dictionary at such a place.

    time_first: whether the model takes ids [T, B] and returns tensors [T, B, …]. state: the hidden state that it got.
    """

    x: tuple[int | str, ...]
    y: tuple[int | str, ...] | None
    time_first: bool = False
    state: HiddenState | None = None

    def forward(self, model: nn.Module) -> Forward:
        """Return a function of x int64 [B, T] alone.

        Where the model cannot do without targets, it is given x for them; where it cannot do without a hidden state,
        B is 1, and it is given a fresh one.
        """

        def call(x: Tensor) -> Any:
            try:
                return self._called(model, x)
            except TypeError:
                if self.y is None and self.state is None:
                    raise
            if self.y is not None:
                try:
                    return self._called(model, x, self.y)
                except TypeError:
                    if self.state is None:
                        raise
            assert self.state is not None
            return self._called_with_state(model, x, self.state)

        return call

    def _called_with_state(self, model: nn.Module, x: Tensor, hidden: HiddenState) -> Any:
        """Call the model with x int64 [1, T] and a fresh state.

        Raises ConfigError if it fails or returns no new state.
        """
        native_x = x.t() if self.time_first else x
        state = hidden.fresh(model, time_first=self.time_first)
        values = {self.x: native_x, (hidden.place,): state}
        try:
            output = _call(model, values)
        except TypeError:
            if self.y is None:
                raise
            output = _call(model, {**values, self.y: native_x})
        except Exception as error:
            raise hidden.failed(model, error) from error
        output = hidden.without_state(model, output, state)
        return _batch_first(output, native_x.shape) if self.time_first else output

    def with_targets(self, model: nn.Module) -> Forward:
        """Return a function of x int64 [B, T] that gives the model x for the targets, too."""
        assert self.y is not None
        y = self.y
        return lambda x: self._called(model, x, y)

    def _called(self, model: nn.Module, x: Tensor, y: tuple[int | str, ...] | None = None) -> Any:
        """Call the model with x int64 [B, T], at the place y, too."""
        native_x = x.t() if self.time_first else x
        output = _call(model, {self.x: native_x} if y is None else {self.x: native_x, y: native_x})
        return _batch_first(output, native_x.shape) if self.time_first else output


def call_form(args: tuple[Any, ...], kwargs: Mapping[str, Any], inputs: Inputs) -> CallForm | None:
    """Return the form of a call with these arguments; None if it has no x."""
    x = _place_of(inputs.x, args, kwargs)
    if x is None or inputs.x is None:
        return None
    return CallForm(x, _place_of(inputs.y, args, kwargs), state=hidden_state(args, kwargs, inputs.x))


def _batch_first(output: Any, shape: torch.Size) -> Any:
    """Return an output in which tensors [T, B, …] are [B, T, …]. shape: [T, B]."""
    if isinstance(output, Tensor):
        return output.transpose(0, 1) if output.dim() >= 3 and output.shape[:2] == shape else output
    if type(output) in (tuple, list):
        return type(output)(_batch_first(part, shape) for part in output)
    return output


def _place_of(tensor: Tensor | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int | str, ...] | None:
    places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in places:
        if tensor is not None and value is tensor:
            return (place,)
        if isinstance(value, Mapping):
            for key, item in value.items():
                if tensor is not None and item is tensor:
                    return (place, str(key))
    return None


def _call(model: nn.Module, values: Mapping[tuple[int | str, ...], Any]) -> Any:
    arguments: dict[int | str, Any] = {}
    for place, value in values.items():
        if len(place) == 1:
            arguments[place[0]] = value
        else:
            arguments.setdefault(place[0], {})[place[1]] = value
    positions = [place for place in arguments if isinstance(place, int)]
    args = [arguments.get(i) for i in range(max(positions, default=-1) + 1)]
    return model(*args, **{place: value for place, value in arguments.items() if isinstance(place, str)})


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module in a compiled or parallel wrapper.

    To call the wrapper could compile it again, or wait for other processes.
    """
    while True:
        inner = uncompiled(model)
        if isinstance(inner, nn.DataParallel | nn.parallel.DistributedDataParallel):
            inner = inner.module
        if inner is model:
            return model
        model = inner


def uncompiled(model: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` has wrapped, or the module itself if it is not compiled."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def is_sharded(tensor_or_module: Tensor | nn.Module) -> bool:
    """Return whether a tensor, or any parameter of a module, is spread over several processes.

    To read such a tensor, or to call such a module, all processes must do it together, and only one records.
    """
    if type(tensor_or_module) in (Tensor, nn.Parameter):  # Nearly all, and at every step.
        return False
    if isinstance(tensor_or_module, Tensor):
        return hasattr(tensor_or_module, "placements")
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in tensor_or_module.modules()):
        return True
    return any(is_sharded(parameter) for parameter in tensor_or_module.parameters())


def parallelism(model: nn.Module) -> Parallelism:
    """Return how several processes train this model together, as its class shows."""
    inner = uncompiled(model)
    if is_sharded(inner):
        return "sharded"
    return "ddp" if isinstance(inner, nn.parallel.DistributedDataParallel) else "none"


def has_room_for_copy(model: nn.Module) -> bool:
    """Return whether a copy of the model fits into the memory of its GPU twice over; always on the CPU."""
    parameters = list(model.parameters())
    if not parameters or not parameters[0].is_cuda:
        return True
    free, _ = torch.cuda.mem_get_info(parameters[0].device)
    return bool(free > 2 * sum(p.numel() * p.element_size() for p in parameters))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every module gets its own mode back. Random numbers stay as they are."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with unchanged_rng(), torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def copied(model: nn.Module) -> nn.Module | None:
    """Return a copy of the model with weights of its own; None where it cannot be copied."""
    if not has_room_for_copy(model):
        return None
    try:
        return copy.deepcopy(model).requires_grad_(requires_grad=False).eval()
    except Exception:  # Any module of a user may refuse, in its own way.
        return None
