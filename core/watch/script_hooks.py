"""Further hooks for the recorder of a script: the calls of its model."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from tui_lab.core.watch.hooks import Listener, TorchHooks


class ScriptListener(Listener, Protocol):
    """What ScriptHooks calls, always in the thread that trains."""

    def training_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model is called with gradients."""
        ...

    def before_clip(self) -> None:
        """The script is about to clip gradients."""
        ...

    def after_backward(self) -> None:
        """Backpropagation has ended."""
        ...

    def evaluation_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model, or a further module of its class, maybe a part of it, is called without gradients.

        The arguments are those of the model only.
        """
        ...

    def evaluation_output(self, output: Any) -> None:
        """The model returned `output` without gradients."""
        ...


class ScriptHooks(TorchHooks):
    """Installs the hooks of TorchHooks. A ModelFinder calls `model_called`, `model_returned`, `other_called`."""

    def __init__(self, listener: ScriptListener) -> None:
        super().__init__(listener)

    def _clip(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.listens():
            self.tell("before_clip")
        return super()._clip(original, *args, **kwargs)

    def _backward(self, original: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
        result = super()._backward(original, tensors, *args, **kwargs)
        if self.listens():
            self.tell("after_backward")
        return result

    def model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.listens():
            self.tell("training_call" if torch.is_grad_enabled() else "evaluation_call", module, args, kwargs)

    def model_returned(self, module: nn.Module, output: Any) -> None:
        """The model returned `output` without gradients."""
        if self.listens():
            self.tell("evaluation_output", output)

    def other_called(self, module: nn.Module) -> None:
        """A further module of a class of the model is called without gradients."""
        if self.listens():
            self.tell("evaluation_call", module, (), {})
