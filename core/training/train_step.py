"""One update: from a batch to a mean loss, its gradients, and new weights.

`TrainStepHooks` holds the parts that are often written wrong. Its defaults are right; planted faults replace them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.nonfinite.record import Quantity
from tui_lab.core.training.loss import loss_sum
from tui_lab.core.training.optim import skipping
from tui_lab.core.training.row_losses import RowLosses
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED
from tui_lab.data.shuffle import hash_key
from tui_lab.util.errors import TrainingError

LARGEST_CONCATENATED = 2**20
"""Gradient entries up to which one norm over a concatenated copy is faster than a norm of each tensor."""

_DROPOUT_STREAM = 1


class LossSum(Protocol):
    """(model, x, y) → summed loss, []. losses: gets that of each target."""

    def __call__(self, model: Model, x: Tensor, y: Tensor, losses: TargetLosses | None = None, /) -> Tensor: ...


def counts(y: Tensor) -> tuple[Tensor, int]:
    """Return what a mean can be taken over: the targets that are not ignored, [], and the rows; y int64 [B, T]."""
    return (y != IGNORED).sum(), len(y)


def count_targets(targets: Tensor, rows: int) -> Tensor:
    """Return the divisor of the summed loss: the number of targets that are not ignored, at least one."""
    return targets.clamp(min=1)


def dropout_seed(seed: int, step: int, rank: int = 0) -> int:
    """Return the seed of torch's generator before update `step` on process `rank`."""
    return hash_key(seed, step, _DROPOUT_STREAM, *([rank] if rank else []))


def set_training_mode(model: nn.Module) -> None:
    """Put the model into training mode."""
    model.train()


def clear_gradients(optimizers: Sequence[Optimizer]) -> None:
    """Remove the gradients of all parameters that the optimizers hold."""
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class TrainStepHooks:
    """The replaceable parts of an update.

    loss_sum: (model, x, y, losses) → summed loss; losses gets that of each target, unless it is None. divisor:
    (targets, rows) of `counts` → what the sum is divided by. set_mode: puts the model into training mode. clear: frees
    the gradients after the update. lr_factor: multiplies the scheduled learning rate.
    """

    loss_sum: LossSum = loss_sum
    divisor: Callable[[Tensor, int], Tensor] = count_targets
    set_mode: Callable[[nn.Module], None] = set_training_mode
    clear: Callable[[Sequence[Optimizer]], None] = clear_gradients
    lr_factor: float = 1.0


def mean_loss(model: Model, hooks: TrainStepHooks, x: Tensor, y: Tensor) -> Tensor:
    """Return the training loss, [], in nats per target: x, y int64 [B, T]."""
    return hooks.loss_sum(model, x, y, None) / hooks.divisor(*counts(y))


def backward(
    model: Model,
    hooks: TrainStepHooks,
    x: Tensor,
    y: Tensor,
    micro_batches: int = 1,
    scale: float = 1.0,
    rows: RowLosses | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the mean loss in `micro_batches`: x, y int64 [B, T].

    scale: factor on the loss during the backward pass; the gradients are divided by it. rows: gets the losses of the
    rows. Returns the mean loss and the global norm of the gradient, [] each.
    """
    hooks.set_mode(model)
    losses: TargetLosses | None = None if rows is None else []
    divisor = hooks.divisor(*counts(y))
    total = torch.zeros((), device=x.device)
    micro_batches = min(micro_batches, len(x))
    for micro_x, micro_y in zip(x.tensor_split(micro_batches), y.tensor_split(micro_batches), strict=True):
        loss = hooks.loss_sum(model, micro_x, micro_y, losses) / divisor
        backward_scaled(loss, scale)
        total += loss.detach()
    if rows is not None and losses is not None:
        rows.set(losses, y)
    return total, global_norm(unscaled_gradients(model, scale))


def backward_scaled(loss: Tensor, scale: float) -> None:
    """Compute the gradients of `loss` times `scale`."""
    (loss if scale == 1.0 else loss * scale).backward()  # type: ignore[no-untyped-call]


def unscaled_gradients(model: nn.Module, scale: float) -> list[Tensor]:
    """Divide the gradients of `model` by `scale` in place and return them."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if scale != 1.0:
        torch._foreach_div_(gradients, scale)
    return gradients


def global_norm(gradients: list[Tensor]) -> Tensor:
    """Return the square root of the sum of all squares, []."""
    if not gradients or sum(g.numel() for g in gradients) > LARGEST_CONCATENATED:
        return torch.nn.utils.get_total_norm(gradients)
    norm: Tensor = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
    return norm


@dataclass(frozen=True)
class Overflow:
    """What of a step is not finite. scale: the loss scale it was computed with."""

    quantity: Quantity
    scale: float


class NotFiniteError(TrainingError):
    """The loss or the gradient of a step is not finite."""

    def __init__(self, message: str, overflow: Overflow) -> None:
        super().__init__(message)
        self.overflow = overflow


def check_finite(step: int, loss: float, grad_norm: float, lr: float, scale: float = 1.0) -> None:
    """Raises NotFiniteError if the loss or the gradient norm of step `step`, from 1, is infinite or NaN."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return
    quantity: Quantity = "gradient" if math.isfinite(loss) else "loss"
    raise NotFiniteError(
        f"the {quantity} of step {step} is not finite (loss {loss}, gradient norm {grad_norm}, learning rate {lr:g});"
        " the weights were not updated. Try a smaller optim.lr or optim.grad_clip = 1",
        Overflow(quantity, scale),
    )


def apply_gradients(hooks: TrainStepHooks, optimizers: Sequence[Optimizer], grad_norm: float, clip: float) -> None:
    """Clip the gradients to the global norm `clip` (0: do not clip), update the weights and clear the gradients."""
    if grad_norm > (clip or math.inf):
        torch.nn.utils.clip_grads_with_norm_(_parameters(optimizers), clip, torch.tensor(grad_norm))
    for optimizer in optimizers:
        optimizer.step()
    hooks.clear(optimizers)


def apply_unread_gradients(
    hooks: TrainStepHooks, optimizers: Sequence[Optimizer], grad_norm: Tensor, clip: float, skip: Tensor
) -> None:
    """Do what `apply_gradients` does, bit for bit, without waiting for the device.

    grad_norm: []. skip: float32 [], 1 if the weights must not change, else 0; the gradients are cleared in any case.
    """
    if clip:
        # In float64, as Python compares. A norm of zero leaves the gradients as they are.
        is_clipped = grad_norm.double() > clip
        torch.nn.utils.clip_grads_with_norm_(_parameters(optimizers), clip, grad_norm.float().where(is_clipped, 0.0))
    for optimizer in optimizers:
        with skipping(optimizer, skip):
            optimizer.step()
    hooks.clear(optimizers)


def _parameters(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    # From the optimizers' lists: model.parameters() walks every module, a hundredth of a small model's step.
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
