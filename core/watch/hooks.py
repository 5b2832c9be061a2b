"""Hooks on torch: they notify a listener of what a training script does, and change nothing of it.

Only public places of torch are replaced: functions of torch.nn.functional, torch.autograd.backward, clip_grad_norm_,
methods of GradScaler and of the DataLoader's iterators, and torch's global hooks before and after an optimizer step.
"""

import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data.dataloader import _BaseDataLoaderIter

CRITERIA = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits", "mse_loss")
"""The functions of torch.nn.functional that are taken for losses; the loss modules of torch.nn call them, too."""
OF_CLASSES = ("cross_entropy", "nll_loss")
"""Those of them that give the cross-entropy of classes: of logits, and of log-probabilities."""


class Listener(Protocol):
    """What the hooks call, always in the thread that trains. `failed` gets what any other method raises."""

    def criterion(self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """A loss function returned `output`, one value or one for each target. options: its keyword arguments."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Backpropagation from the scalar `loss` begins."""
        ...

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        """The script asked for gradients of the norm `max_norm` at most; `norm` is their norm before."""
        ...

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None:
        """GradScaler multiplied `loss`."""
        ...

    def skipped(self) -> None:
        """GradScaler skipped an optimizer step, since a gradient was not finite."""
        ...

    def before_step(self, optimizer: Optimizer) -> None: ...

    def after_step(self, optimizer: Optimizer) -> None: ...

    def waited(self, seconds: float) -> None:
        """A DataLoader took `seconds` to give a batch."""
        ...

    def failed(self, hook: str, error: Exception) -> None:
        """The method `hook` raised `error`; it is not called again."""
        ...


class TorchHooks:
    """Installs the hooks and removes them. Control flow exceptions, as StopRequested, pass through to the script."""

    criteria: tuple[str, ...] = CRITERIA
    """The loss functions that are replaced."""

    def __init__(self, listener: Listener) -> None:
        self.max_norm: float | None = None
        """The norm for clip_grad_norm_ instead of the script's own."""
        self._listener = listener
        self._disabled: set[str] = set()
        self._thread: int | None = None
        self._active = False
        self._suspended = 0
        self._undo: list[Callable[[], None]] = []
        self.n_steps = 0
        """The steps of optimizers that have begun."""

    def install(self) -> None:
        """Install all hooks. A forked child does not call the listener."""
        self._active = True
        for name in self.criteria:
            self.replace(torch.nn.functional, name, functools.partial(self._criterion, name))
        self.replace(torch.autograd, "backward", self._backward)
        self.replace(torch.nn.utils, "clip_grad_norm_", self._clip)
        self.replace(torch.nn.utils.clip_grad, "clip_grad_norm_", self._clip)
        self.replace(torch.amp.GradScaler, "scale", self._scale)
        self.replace(torch.amp.GradScaler, "step", self._scaler_step)
        self.replace(_BaseDataLoaderIter, "__next__", self._next_batch)
        self.replace(torch.jit, "script", self._jit_script)  # noqa: TID251 - nothing is loaded.
        for register, call in (
            (register_optimizer_step_pre_hook, self._before_step),
            (register_optimizer_step_post_hook, self._after_step),
        ):
            self._undo.append(register(call).remove)
        hooks = weakref.ref(self)  # What is registered stays until the process ends.
        os.register_at_fork(after_in_child=lambda: _deactivate(hooks()))

    def remove(self) -> None:
        """Remove all hooks. What a script has imported by name stays a wrapper, which then only passes calls on."""
        self._active = False
        while self._undo:
            self._undo.pop()()

    def deactivate(self) -> None:
        """Only pass calls on from now on."""
        self._active = False

    def replace(self, place: Any, name: str, wrapper: Callable[..., Any]) -> Callable[[], None]:
        """Replace `place.name`, which may be inherited, by a function that calls wrapper(original, *args, **kwargs).

        Return a function that undoes it, as `remove` does.
        """
        is_inherited = name not in vars(place)
        original = getattr(place, name) if is_inherited else vars(place)[name]

        @functools.wraps(original)
        def replaced(*args: Any, **kwargs: Any) -> Any:
            # A compiled graph must hold the original, not its wrapper.
            if torch.compiler.is_compiling():
                return original(*args, **kwargs)
            return wrapper(original, *args, **kwargs)

        setattr(place, name, replaced)

        def undo() -> None:
            if vars(place).get(name) is not replaced:
                return
            if is_inherited:
                delattr(place, name)
            else:
                setattr(place, name, original)

        self._undo.append(undo)
        return undo

    @property
    def is_notifying(self) -> bool:
        """Whether the listener is at work."""
        return self._suspended > 0

    def listens(self) -> bool:
        """Return whether this call is to be recorded.

        It is if the thread that trains makes it, in the process that began to record.
        """
        if not self._active or self._suspended:
            return False
        return self._thread is None or self._thread == threading.get_ident()

    def notify(self, hook: str, *args: Any) -> Any:
        """Call a method of the listener, unless it failed before; return what it returns, None if it fails.

        What the listener itself calls is not recorded.
        """
        return self.call(hook, getattr(self._listener, hook), *args)

    def call(self, hook: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the same way, which `hook` is the name of."""
        if hook in self._disabled:
            return None
        self._suspended += 1
        try:
            return function(*args)
        except Exception as error:
            self._disabled.add(hook)
            self._listener.failed(hook, error)
            return None
        finally:
            self._suspended -= 1

    def _criterion(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        if self.listens() and isinstance(output, Tensor):
            options = kwargs
            if len(args) == 2:
                logits, targets = args
            else:
                options = dict(zip(("input", "target"), args, strict=False)) | kwargs
                logits = options.pop("input", None)
                targets = options.pop("target", None)
            if isinstance(logits, Tensor) and isinstance(targets, Tensor):
                self.notify("criterion", name, output, logits, targets, options)
        return output

    def _backward(self, original: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
        if self._active and not self._suspended:
            if self._thread is None:
                self._thread = threading.get_ident()
            loss = tensors[0] if isinstance(tensors, list | tuple) and len(tensors) == 1 else tensors
            if isinstance(loss, Tensor) and loss.numel() == 1 and self.listens():
                self.notify("backward", loss)
        return original(tensors, *args, **kwargs)

    def _clip(self, original: Callable[..., Any], parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Any:
        if not self.listens():
            return original(parameters, max_norm, *args, **kwargs)
        limit = max_norm if self.max_norm is None else self.max_norm
        norm = original(parameters, limit, *args, **kwargs)
        self.notify("clipped", norm, max_norm)
        return norm

    def _scale(self, original: Callable[..., Any], scaler: Any, outputs: Any) -> Any:
        scaled = original(scaler, outputs)
        if self.listens() and isinstance(outputs, Tensor) and scaled is not outputs:
            self.notify("scaled", outputs, scaled, scaler._scale)
        return scaled

    def _scaler_step(self, original: Callable[..., Any], scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        steps = self.n_steps
        result = original(scaler, optimizer, *args, **kwargs)
        if self.listens() and self.n_steps == steps:
            self.notify("skipped")
        return result

    def _next_batch(self, original: Callable[..., Any], iterator: Any) -> Any:
        started = time.perf_counter()
        batch = original(iterator)
        if self.listens():
            self.notify("waited", time.perf_counter() - started)
        return batch

    def _jit_script(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """TorchScript compiles the source of the functions that it finds, so it must find torch's own."""
        replaced = [(torch.nn.functional, name, vars(torch.nn.functional)[name]) for name in self.criteria]
        for place, name, wrapper in replaced:
            setattr(place, name, getattr(wrapper, "__wrapped__", wrapper))
        # It looks up names in the frame of its caller, which is two frames further up than without us.
        kwargs["_frames_up"] = kwargs.get("_frames_up", 0) + 2
        try:
            return original(*args, **kwargs)
        finally:
            for place, name, wrapper in replaced:
                setattr(place, name, wrapper)

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.compiler.is_compiling() or not self._active or self._suspended:
            return
        if self._thread is None:
            self._thread = threading.get_ident()
        self.n_steps += 1
        if self.listens():
            self.notify("before_step", optimizer)

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.compiler.is_compiling() and self.listens():
            self.notify("after_step", optimizer)


def counted_targets(name: str, targets: Tensor, options: dict[str, Any]) -> Tensor | int:
    """Return how many targets count in a loss function: a number, or a tensor that is not read yet."""
    if name not in OF_CLASSES or targets.is_floating_point():
        return targets.numel()
    n_targets: Tensor = (targets != options.get("ignore_index", -100)).sum()
    return n_targets


def _deactivate(hooks: TorchHooks | None) -> None:
    if hooks is not None:
        hooks.deactivate()
