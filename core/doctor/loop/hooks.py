"""Further hooks on torch for the recorder of a loop: the order of its calls, and when each begins and ends."""

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from tui_lab.core.doctor.loop.carried_states import RECURRENT
from tui_lab.core.doctor.loop.self_averages import IN_PLACE, SelfAverageCalls
from tui_lab.core.watch.hooks import CRITERIA, Listener, TorchHooks

PARTS = (torch.nn.utils.parametrize.ParametrizationList,)
"""Modules that are called where a weight is read, as by the code that builds a model: no models."""
FURTHER_CRITERIA = ("kl_div", "binary_cross_entropy", "l1_loss", "smooth_l1_loss", "huber_loss")
"""Loss functions that only the observer listens to."""


class LoopListener(Listener, Protocol):
    """What LoopHooks calls, always in the thread that trains."""

    def created(self, optimizer: Optimizer) -> None: ...

    def model_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A module with parameters is called, not from within another such call."""
        ...

    def model_return(self, module: nn.Module, output: Any) -> None:
        """The call of `model_call` returned."""
        ...

    def loss(self, name: str, output: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """A loss function returned `output`, of any shape."""
        ...

    def iterated(self, loader: DataLoader[Any]) -> None:
        """The loop made an iterator of a DataLoader."""
        ...

    def drawn(self) -> None:
        """A DataLoader's iterator returned a batch."""
        ...

    def backward_done(self) -> None:
        """The backward pass that `backward` began is complete."""
        ...

    def clip_done(self, kind: str, limit: float, norm: Tensor | None) -> None:
        """Gradients were clipped to `limit`. kind: "norm" or "value"; norm: before, if it is known."""
        ...

    def zero_grad(self, owner: Optimizer | nn.Module) -> None:
        """The gradients of `owner` are about to be cleared."""
        ...

    def unscaled(self, optimizer: Optimizer) -> None:
        """The loop itself called GradScaler.unscale_."""
        ...

    def step_called(self, has_closure: bool) -> None:
        """An optimizer's step begins; `before_step` follows. A closure calls backward within the step."""
        ...

    def scaler_created(self) -> None:
        """The loop created a GradScaler."""
        ...

    def scaler_stepped(self, scaler: Any, optimizer: Optimizer) -> None:
        """An enabled GradScaler is about to make a step of an optimizer, or to skip it."""
        ...

    def scheduled(self, scheduler: Any) -> None:
        """A learning rate scheduler made a step."""
        ...

    def schedule_created(self, scheduler: Any) -> None:
        """A learning rate scheduler was created."""
        ...

    def recurrent_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """One of torch's recurrent layers is called with gradients, anywhere."""
        ...

    def recurrent_return(self, module: nn.Module, output: Any) -> None:
        """The call of `recurrent_call` returned."""
        ...

    def averaged_with_itself(self, tensor: Tensor) -> None:
        """A tensor was averaged with itself in place."""
        ...

    def indices_drawn(self, iterator: Any, indices: Any) -> None:
        """The iterator of a DataLoader drew the indices of a batch, which it may give later."""
        ...

    def fetched(self, iterator: Any, batch: Any) -> None:
        """The iterator of a DataLoader gave a batch."""
        ...


class UnusedHooks:
    """What TorchHooks reports and a recorder of loops does not need, since LoopHooks reports more."""

    def criterion(self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """`loss` reports it."""

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        """`clip_done` reports it."""

    def waited(self, seconds: float) -> None:
        """Not needed."""


class LoopHooks(TorchHooks):
    """Installs the hooks of TorchHooks and those of a loop's order."""

    criteria = (*CRITERIA, *FURTHER_CRITERIA)

    def __init__(self, listener: LoopListener) -> None:
        super().__init__(listener)
        self._depth = 0
        """Of nested calls of modules with parameters."""
        self._is_scaler_stepping = False
        self._is_scheduling = False
        self._is_in_criterion = False
        self._self_averages = SelfAverageCalls()
        self._undo_in_place: list[Callable[[], None]] = []
        """Each gives a tensor's method back."""

    def redirect(self, listener: LoopListener) -> None:
        """Call another listener from now on."""
        self._listener = listener
        self._disabled.clear()

    def install(self) -> None:
        """Install all hooks. A forked child does not call the listener."""
        super().install()
        self.replace(nn.Module, "__call__", self._module_call)
        self.replace(Optimizer, "__init__", self._created)
        self.replace(Optimizer, "zero_grad", self._zero_grad)
        self.replace(nn.Module, "zero_grad", self._zero_grad)
        self.replace(torch.nn.utils, "clip_grad_value_", self._clip_value)
        self.replace(torch.nn.utils.clip_grad, "clip_grad_value_", self._clip_value)
        self.replace(torch.nn.utils.clip_grad, "_clip_grads_with_norm_", self._clip_with_norm)
        self.replace(torch.amp.GradScaler, "unscale_", self._unscale)
        self.replace(torch.amp.GradScaler, "__init__", self._scaler_created)
        self.replace(DataLoader, "__iter__", self._iterate)
        self.replace(_BaseDataLoaderIter, "_next_index", self._next_index)
        for name in IN_PLACE:
            self._undo_in_place.append(self.replace(Tensor, name, functools.partial(self._in_place, name)))
        self.replace(torch, "compile", self._compile)
        for kind in _with_own_step(LRScheduler, ReduceLROnPlateau):
            self.replace(kind, "step", self._schedule)

    def _compile(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """torch.compile cannot trace a method of a tensor that is not torch's own, so it must find none."""
        for undo in self._undo_in_place:
            undo()
        return original(*args, **kwargs)

    def _in_place(self, name: str, original: Callable[..., Any], tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.listens() and self._self_averages.is_self_average(name, tensor, args, kwargs):
            self.notify("averaged_with_itself", tensor)
        return original(tensor, *args, **kwargs)

    def _module_call(self, original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if isinstance(module, RECURRENT) and torch.is_grad_enabled() and self.listens():
            original = functools.partial(self._recurrent, original)
        if self._depth or not self.listens() or isinstance(module, PARTS) or next(module.parameters(), None) is None:
            return original(module, *args, **kwargs)
        self.notify("model_call", module, args, kwargs)
        self._depth += 1
        try:
            output = original(module, *args, **kwargs)
        finally:
            self._depth -= 1
        self.notify("model_return", module, output)
        return output

    def _recurrent(self, original: Callable[..., Any], module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.notify("recurrent_call", module, args, kwargs)
        output = original(module, *args, **kwargs)
        self.notify("recurrent_return", module, output)
        return output

    def _created(self, original: Callable[..., Any], optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        original(optimizer, *args, **kwargs)
        if self.listens():
            self.notify("created", optimizer)

    def _zero_grad(self, original: Callable[..., Any], owner: Any, *args: Any, **kwargs: Any) -> Any:
        if self.listens():
            self.notify("zero_grad", owner)
        return original(owner, *args, **kwargs)

    def _criterion(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._is_in_criterion:  # Under a TorchFunctionMode, torch's function calls itself by its name.
            return original(*args, **kwargs)
        self._is_in_criterion = True
        try:
            output = original(*args, **kwargs)
        finally:
            self._is_in_criterion = False
        if self.listens() and isinstance(output, Tensor):
            options = dict(zip(("input", "target"), args, strict=False)) | kwargs
            targets = options.pop("target", None)
            if isinstance(targets, Tensor):
                self.notify("loss", name, output, targets, options)
        return output

    def _backward(self, original: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._backward(original, tensors, *args, **kwargs)
        if self.listens():
            self.notify("backward_done")
        return result

    def _iterate(self, original: Callable[..., Any], loader: Any) -> Any:
        if self.listens():
            self.notify("iterated", loader)
        return original(loader)

    def _next_index(self, original: Callable[..., Any], iterator: Any) -> Any:
        indices = original(iterator)
        if self.listens():
            self.notify("indices_drawn", iterator, indices)
        return indices

    def _next_batch(self, original: Callable[..., Any], iterator: Any) -> Any:
        batch = original(iterator)
        if self.listens():
            self.notify("drawn")
            self.notify("fetched", iterator, batch)
        return batch

    def _clip(self, original: Callable[..., Any], parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        # `_clip_with_norm` reports it, also where the function was imported by name before.
        return original(parameters, max_norm, *args, **kwargs)

    def _clip_with_norm(
        self, original: Callable[..., Any], parameters: Any, max_norm: float, total_norm: Tensor, *args: Any
    ) -> Any:
        result = original(parameters, max_norm, total_norm, *args)
        if self.listens():
            self.notify("clip_done", "norm", float(max_norm), total_norm)
        return result

    def _clip_value(
        self, original: Callable[..., Any], parameters: Any, clip_value: float, *args: Any, **kwargs: Any
    ) -> Any:
        result = original(parameters, clip_value, *args, **kwargs)
        if self.listens():
            self.notify("clip_done", "value", float(clip_value), None)
        return result

    def _unscale(self, original: Callable[..., Any], scaler: Any, optimizer: Any) -> Any:
        result = original(scaler, optimizer)
        if self.listens() and not self._is_scaler_stepping and scaler.is_enabled():
            self.notify("unscaled", optimizer)
        return result

    def _scaler_created(self, original: Callable[..., Any], scaler: Any, *args: Any, **kwargs: Any) -> None:
        original(scaler, *args, **kwargs)
        if self.listens():
            self.notify("scaler_created")

    def _scaler_step(self, original: Callable[..., Any], scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        if self.listens() and scaler.is_enabled():
            self.notify("scaler_stepped", scaler, optimizer)
        self._is_scaler_stepping = True
        try:
            return super()._scaler_step(original, scaler, optimizer, *args, **kwargs)
        finally:
            self._is_scaler_stepping = False

    def _schedule(self, original: Callable[..., Any], scheduler: Any, *args: Any, **kwargs: Any) -> Any:
        # A scheduler steps once when it is created, and SequentialLR steps others.
        is_first = sys._getframe(2).f_code.co_name == "_initial_step"
        if is_first and self.listens():
            self.notify("schedule_created", scheduler)
        if self._is_scheduling or is_first or not self.listens():
            return original(scheduler, *args, **kwargs)
        self._is_scheduling = True
        try:
            result = original(scheduler, *args, **kwargs)
        finally:
            self._is_scheduling = False
        self.notify("scheduled", scheduler)
        return result

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling() and self.listens():
            self.notify("step_called", any(map(callable, (*args[1:], *kwargs.values()))))
        super()._before_step(optimizer, args, kwargs)


def _with_own_step(*kinds: type) -> Iterator[type]:
    """Yield the classes, and all that derive from them, that define a `step` of their own, each once."""
    classes: dict[type, None] = {}
    stack = list(kinds)
    while stack:
        kind = stack.pop()
        if kind not in classes:
            classes[kind] = None
            stack += kind.__subclasses__()
    yield from (kind for kind in classes if "step" in vars(kind))
