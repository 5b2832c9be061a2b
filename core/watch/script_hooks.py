"""Further hooks for the recorder of a script: the calls of its model."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import nn

from tui_lab.core import events as ev
from tui_lab.core.watch.hooks import Listener, TorchHooks
from tui_lab.core.watch.process.ending import NO_ERRORS, ending


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

    def model_output(self, output: Any) -> None:
        """The model returned `output`, with gradients if they are enabled."""
        ...


class ScriptHooks(TorchHooks):
    """Installs the hooks of TorchHooks. A ModelFinder calls `model_called` and the other methods of CallListener."""

    def __init__(self, listener: ScriptListener) -> None:
        super().__init__(listener)
        self.raised: ev.Stopped | ev.Failed | None = None
        """The end of a run that the latest error makes, if no training call was made after it.

        Only errors that are raised in the model, its loss, the backward pass or a DataLoader are seen. The exception
        itself would keep the tensors of all its frames.
        """

    def _clip(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.listens():
            self.notify("before_clip")
        return super()._clip(original, *args, **kwargs)

    def _backward(self, original: Callable[..., Any], tensors: Any, *args: Any, **kwargs: Any) -> Any:
        self.raised = None
        try:
            result = super()._backward(original, tensors, *args, **kwargs)
        except BaseException as error:
            self._note(error)
            raise
        if self.listens():
            self.notify("after_backward")
        return result

    def _criterion(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._criterion(name, original, *args, **kwargs)
        except BaseException as error:
            self.model_raised(error)
            raise

    def _next_batch(self, original: Callable[..., Any], iterator: Any) -> Any:
        try:
            return super()._next_batch(original, iterator)
        except BaseException as error:
            self._note(error)
            raise

    def _note(self, error: BaseException) -> None:
        if self.listens() and not isinstance(error, NO_ERRORS):
            self.raised = ending(0, error)

    def model_raised(self, error: BaseException) -> None:
        """The model, or its loss, raised `error`."""
        if torch.is_grad_enabled():
            self._note(error)

    def model_called(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.listens():
            is_training = torch.is_grad_enabled()
            self.raised = None if is_training else self.raised
            self.notify("training_call" if is_training else "evaluation_call", module, args, kwargs)

    def model_returned(self, module: nn.Module, output: Any) -> None:
        """The model returned `output`."""
        if self.listens():
            self.notify("model_output", output)

    def other_called(self, module: nn.Module) -> None:
        """A further module of a class of the model is called without gradients."""
        if self.listens():
            self.notify("evaluation_call", module, (), {})
