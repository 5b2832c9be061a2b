"""One update: from a batch to a mean loss, its gradients, and new weights.

`TrainStepHooks` names the parts of it that people get wrong; its defaults are the right ones, and faults replace them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.model import Transformer
from tui_lab.core.training.loss import loss_sum
from tui_lab.data.dataset import IGNORED
from tui_lab.data.shuffle import hash_key

SMALL_IN_ALL = 2**20
"""Entries up to which a copy of all gradients costs less than a call for each."""

_DROPOUT_STREAM = 1
Sum = Callable[[nn.Module, Tensor, Tensor], Tensor]


def counts(y: Tensor) -> tuple[Tensor, int]:
    """What a mean may be taken over: the targets that are not ignored, and the rows; y int64 [B, T] → [] and B."""
    return (y != IGNORED).sum(), len(y)


def count_targets(targets: Tensor, rows: int) -> Tensor:
    """What the summed loss is divided by: the targets that are not ignored, at least one."""
    return targets.clamp(min=1)


def dropout_seed(seed: int, step: int, rank: int = 0) -> int:
    """What torch's generator is seeded with before update `step`, by the process `rank` among several."""
    return hash_key(seed, step, _DROPOUT_STREAM, *([rank] if rank else []))


def to_training(model: nn.Module) -> None:
    # To tell each module takes as long as one of its products; a stranger's may change by themselves, ours do not.
    if not (model.training and isinstance(model, Transformer)):
        model.train()


def clear_gradients(optimizers: Sequence[Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class TrainStepHooks:
    """loss_sum: (model, x, y) → summed loss; divisor: of `counts`, by how much; mode: puts the model into training;
    clear: lets the gradients go after the update; lr_factor: times the learning rate that was asked for."""

    loss_sum: Sum = loss_sum
    divisor: Callable[[Tensor, int], Tensor] = count_targets
    mode: Callable[[nn.Module], None] = to_training
    clear: Callable[[Sequence[Optimizer]], None] = clear_gradients
    lr_factor: float = 1.0


def mean_loss(model: nn.Module, hooks: TrainStepHooks, x: Tensor, y: Tensor) -> Tensor:
    """The loss that is trained on, in nats a target: x, y int64 [B, T] → []."""
    return hooks.loss_sum(model, x, y) / hooks.divisor(*counts(y))


def backward(model: nn.Module, hooks: TrainStepHooks, x: Tensor, y: Tensor, parts: int = 1) -> tuple[Tensor, Tensor]:
    """Gradients of the mean loss, computed in `parts`; the mean loss and the gradient's global norm."""
    hooks.mode(model)
    divisor = hooks.divisor(*counts(y))
    total = torch.zeros((), device=x.device)
    parts = min(parts, len(x))
    for x_part, y_part in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
        loss = hooks.loss_sum(model, x_part, y_part) / divisor
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total, global_norm([p.grad for p in model.parameters() if p.grad is not None])


def global_norm(gradients: list[Tensor]) -> Tensor:
    """√ of the sum of all squares: []. Small gradients are laid side by side first: faster than a norm of each."""
    if not gradients or sum(g.numel() for g in gradients) > SMALL_IN_ALL:
        return torch.nn.utils.get_total_norm(gradients)
    norm: Tensor = torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
    return norm


def apply(model: nn.Module, hooks: TrainStepHooks, optimizers: Sequence[Optimizer], norm: float, clip: float) -> None:
    """Clip the gradients to a global norm (0: not at all), update the weights, let the gradients go."""
    if norm > (clip or math.inf):
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), clip, torch.tensor(norm))
    for optimizer in optimizers:
        optimizer.step()
    hooks.clear(optimizers)
