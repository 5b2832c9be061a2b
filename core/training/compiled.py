"""Updates compiled by torch.compile, which fuses what lies between the matrix products (`train.compile`).

Only updates are. Evaluation, generation and whatever looks inside a model call its modules as they are: their shapes
change from call to call, and compiled code does not call the hooks of modules.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.model import Transformer
from tui_lab.core.training.loss import loss_sum
from tui_lab.core.training.train_step import TrainStepHooks
from tui_lab.core.user_code.external_model import Model
from tui_lab.util.errors import ConfigError, TrainingError

Backend = str | Callable[..., Callable[..., object]]
"""What torch.compile takes: the name of a compiler, or a function from a graph and its inputs to a function."""
BACKEND = "inductor"
"""The default of torch.compile."""


class CompiledLoss:
    """A `LossSum` that compiles its model when it is first called, which takes up to a minute.

    The built-in model is compiled without its head, whose kernels are chosen by measurement. A model with hooks is
    called as it is. backend: of torch.compile.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        part = model.hidden if isinstance(model, Transformer) else model.forward
        self._compute: Callable[[Tensor], Tensor] = torch.compile(part, backend=backend)

    def __call__(self, model: Model, x: Tensor, y: Tensor, losses: TargetLosses | None = None) -> Tensor:
        if has_hooks(model):
            return model.loss_sum(x, y, losses)
        from torch._dynamo.exc import TorchDynamoException

        try:
            return model.loss_sum(x, y, losses, self._compute)
        except TorchDynamoException as error:
            raise TrainingError(f"torch.compile failed: {_reason(error)}. Try train.compile = false") from error


def with_compiled_loss(hooks: TrainStepHooks, model: Model, backend: Backend = BACKEND) -> TrainStepHooks:
    """Return `hooks` with a compiled loss, or as they are if a planted fault has replaced it."""
    return replace(hooks, loss_sum=CompiledLoss(model, backend)) if hooks.loss_sum is loss_sum else hooks


def without_compiled_loss(hooks: TrainStepHooks) -> TrainStepHooks:
    """Return `hooks` with the loss of the model as it is, where every operation can be followed."""
    return replace(hooks, loss_sum=loss_sum) if isinstance(hooks.loss_sum, CompiledLoss) else hooks


def has_hooks(model: nn.Module) -> bool:
    """Return whether a module of `model` has a hook that the compiled code would not call."""
    return any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
        for module in model.modules()
    )


def require_compiler(device: torch.device) -> None:
    """Compile a small function for `device`. Raises ConfigError if that fails: torch needs a C++ compiler or Triton."""
    try:
        torch.compile(torch.sin, backend=BACKEND)(torch.zeros(1, device=device))
    except Exception as error:
        raise ConfigError.of(
            "unavailable",
            f"torch.compile does not work here: {_reason(error)}",
            key="train.compile",
            value=True,
            allowed="false, or install a C++ compiler; on NVIDIA GPUs also the package triton",
        ) from error


def _reason(error: Exception) -> str:
    """Return the type and the first line of what the compiler raised; torch wraps it into an error of its own."""
    cause = getattr(error, "inner_exception", error)
    first_line = str(cause).strip().partition("\n")[0]
    return f"{type(cause).__name__}: {first_line}"
