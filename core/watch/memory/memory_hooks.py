"""The hooks on torch for an account of memory: those of TorchHooks, and the beginning and end of what they surround."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch

from tui_lab.core.watch.hooks import Listener, TorchHooks
from tui_lab.core.watch.memory.kept_tensors import KeptTensors


class MemoryListener(Listener, Protocol):
    """What MemoryHooks calls, always in the thread that trains."""

    def loss_begins(self) -> None:
        """A loss function is called."""
        ...

    def loss_ended(self) -> None: ...

    def gradients_begin(self) -> None:
        """torch.autograd.grad is called."""
        ...

    def gradients_ended(self) -> None:
        """It, or a backward pass, has ended."""
        ...


class MemoryHooks(TorchHooks):
    """Installs the hooks of TorchHooks, and one on torch.autograd.grad."""

    def __init__(self, listener: MemoryListener) -> None:
        super().__init__(listener)
        self._depth = 0
        """Backward passes at work: a reentrant activation checkpoint has some inside of one."""

    def install(self) -> None:
        super().install()
        self.replace(torch.autograd, "grad", self._grad)

    def around_transforms(self, kept: KeptTensors) -> None:
        """Take the hooks for saved tensors away where torch refuses any, such as in torch.func.grad."""

        @contextlib.contextmanager
        def without_hooks(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
            were_there = kept.remove()
            try:
                with original(*args, **kwargs) as value:
                    yield value
            finally:
                if were_there:
                    kept.install()

        self.replace(torch.autograd.graph, "disable_saved_tensors_hooks", without_hooks)

    def _criterion(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.listens():
            return super()._criterion(name, original, *args, **kwargs)
        self.notify("loss_begins")
        try:
            return super()._criterion(name, original, *args, **kwargs)
        finally:
            self.notify("loss_ended")

    def _backward(self, original: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
        self._depth += 1
        try:
            result = super()._backward(original, tensors, *args, **kwargs)
        finally:
            self._depth -= 1
        if self.listens() and not self._depth:
            self.notify("gradients_ended")
        return result

    def _grad(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.listens():
            return original(*args, **kwargs)
        self.notify("gradients_begin")
        result = original(*args, **kwargs)
        if not self._depth:
            self.notify("gradients_ended")
        return result
