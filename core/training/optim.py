"""Optimizers (torch's own, not compiled) and learning-rate schedules."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.config.schema import OptimConfig
from tui_lab.core.training.optim_without_dynamo import SGD, Adam, AdamW, Muon


def build_optimizers(model: nn.Module, config: OptimConfig) -> list[Optimizer]:
    """Return the optimizers of a model: one, or two for muon, which is for the hidden matrices only.

    Weight decay acts on matrices only. torch's fused kernels take a third of the time.
    """
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    if config.name == "muon":
        # Jordan et al. 2024: orthogonalized momentum for hidden matrices, AdamW for embeddings, head and vectors.
        hidden = [p for n, p in model.named_parameters() if p.dim() == 2 and n.startswith("layers.")]
        other_matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and not n.startswith("layers.")]
        return [
            Muon(
                hidden,
                lr=config.lr,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            AdamW(_groups(other_matrices, vectors, config), lr=config.lr, betas=config.betas, fused=True),
        ]
    groups = _groups(matrices, vectors, config)
    match config.name:
        case "adam":
            return [Adam(groups, lr=config.lr, betas=config.betas, fused=True)]
        case "adamw":
            return [AdamW(groups, lr=config.lr, betas=config.betas, fused=True)]
        case "momentum":
            return [SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)]
        case "sgd":
            return [SGD(groups, lr=config.lr, fused=True)]


def _groups(matrices: list[nn.Parameter], vectors: list[nn.Parameter], config: OptimConfig) -> list[dict[str, object]]:
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def can_skip_on_device(optimizers: Iterable[Optimizer]) -> bool:
    """Return whether `skipping` has an effect on all of them: torch's fused optimizers, which Muon is not."""
    return all(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in optimizers)


@contextmanager
def skipping(optimizer: Optimizer, skip: Tensor) -> Iterator[None]:
    """Let `step` change nothing if `skip`, float32 [], is 1 once the device comes to it.

    That is how torch.amp.GradScaler tells a fused optimizer that a gradient is not finite.
    """
    optimizer.found_inf = skip  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del optimizer.found_inf  # type: ignore[attr-defined]


def lr_at(step: int, steps: int, config: OptimConfig) -> float:
    """Return the learning rate of step `step` (from 0) of `steps`, which may have been changed during the training.

    Warm-up rises linearly and reaches the peak at its last step. cosine: Loshchilov and Hutter 2017, without restarts.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    return config.lr * _decay(step - config.warmup_steps, max(1, steps - config.warmup_steps), config)


def _decay(done: int, length: int, config: OptimConfig) -> float:
    """Return the learning rate as a fraction of its peak, `done` steps into a decay of `length` steps."""
    share = min(1.0, done / length)
    low = config.min_lr_ratio
    match config.schedule:
        case "constant":
            return 1.0
        case "linear":
            return low + (1.0 - low) * (1.0 - share)
        case "cosine":
            return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * share))
        case "step":
            return max(low, float(config.step_factor ** (done // config.step_every)))


def set_lr(optimizers: list[Optimizer], lr: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in _all_groups(optimizers):
        group["lr"] = lr


def set_weight_decay(optimizers: list[Optimizer], weight_decay: float) -> None:
    """Set the weight decay of the matrices; that of the vectors stays zero."""
    for group in _all_groups(optimizers):
        if group["params"] and group["params"][0].dim() >= 2:
            group["weight_decay"] = weight_decay


def _all_groups(optimizers: list[Optimizer]) -> Iterator[dict[str, Any]]:
    for optimizer in optimizers:
        yield from optimizer.param_groups
