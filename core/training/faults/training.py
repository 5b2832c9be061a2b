"""Faults of the loss, the optimizer and the update."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses, cross_entropy_sum
from tui_lab.core.training.train_step import LossSum, TrainStepHooks
from tui_lab.core.user_code.external_model import Model

Criterion = Callable[[Tensor, Tensor, TargetLosses | None], Tensor]
TOO_HIGH = 1e4
TOO_LOW = 1e-5
"""Factors of the learning rate."""


def after_softmax(logits: Tensor, y: Tensor, losses: TargetLosses | None) -> Tensor:
    """Return the summed cross-entropy of probabilities [B, T, V] in place of logits."""
    return cross_entropy_sum(logits.softmax(dim=-1), y, losses=losses)


def shifted_again(logits: Tensor, y: Tensor, losses: TargetLosses | None) -> Tensor:
    """Return the summed cross-entropy of logits [B, T, V] and targets [B, T] that are shifted by one more position."""
    return cross_entropy_sum(logits[:, :-1], y[:, 1:], losses=losses)


def on_logits(criterion: Criterion) -> LossSum:
    """Make the summed loss of a model from a criterion of its logits."""
    return lambda model, x, y, losses=None: criterion(model(x), y, losses)


def negative(model: Model, x: Tensor, y: Tensor, losses: TargetLosses | None = None) -> Tensor:
    """Return the summed loss with the wrong sign."""
    if losses is None:
        return -model.loss_sum(x, y)
    positive: TargetLosses = []
    total = model.loss_sum(x, y, positive)
    losses += [-part for part in positive]
    return -total


def by_rows(targets: Tensor, rows: int) -> Tensor:
    """Divide by the number of rows in place of that of the targets."""
    return torch.tensor(rows, device=targets.device)


def one(targets: Tensor, rows: int) -> Tensor:
    """Divide by nothing, so that the loss stays a sum."""
    return torch.ones((), device=targets.device)


def set_evaluation_mode(model: nn.Module) -> None:
    """Put the model into evaluation mode where training mode belongs."""
    model.eval()


def keep_gradients(optimizers: Sequence[Optimizer]) -> None:
    """Leave the gradients of the step before."""
    return None


CHANGES: dict[str, dict[str, Any]] = {
    "double_softmax": {"loss_sum": on_logits(after_softmax)},
    "double_shift": {"loss_sum": on_logits(shifted_again)},
    "gradient_ascent": {"loss_sum": negative},
    "summed_loss": {"divisor": one},
    "wrong_divisor": {"divisor": by_rows},
    "eval_in_training": {"set_mode": set_evaluation_mode},
    "no_zero_grad": {"clear": keep_gradients},
    "lr_too_high": {"lr_factor": TOO_HIGH},
    "lr_too_low": {"lr_factor": TOO_LOW},
}


def hooks_with(faults: Sequence[str]) -> TrainStepHooks:
    """Return the hooks of a correct step with these faults; if two change the same part, the last one applies."""
    hooks = TrainStepHooks()
    for name in faults:
        hooks = replace(hooks, **CHANGES.get(name, {}))
    return hooks


def owned_by(model: nn.Module, faults: Sequence[str]) -> nn.Module:
    """Return the module whose parameters the optimizer gets: the model, unless a fault gives it another one."""
    if "stale_optimizer" in faults:
        return copy.deepcopy(model)
    if "missing_from_optimizer" in faults:
        partial = nn.Module()
        parameters = list(model.named_parameters())
        last = parameters[-1][0].rpartition(".")[0]
        for name, parameter in parameters:
            if name.rpartition(".")[0] != last:
                _register(partial, name, parameter)
        return partial
    return model


def _register(root: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Register a parameter under its dotted name, since parameter groups are chosen by name."""
    *path, last = name.split(".")
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.register_parameter(last, parameter)
