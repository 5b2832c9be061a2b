"""Does an update clear its gradients and train in training mode, at sensible rates? Cost: four updates."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import MAX_CALLS, Target

UPDATES = 4
FALLEN = 0.9
GROWN = 1.02
"""With frozen weights and one seed each update has the same gradient; leftover gradients add their clipped size."""
MAX_DROPOUT = 0.75
"""Higher rates suggest a keep probability: Srivastava et al. 2014 use 0.2 to 0.5."""
MAX_SHRINKING = 0.1
"""lr × weight decay: the fraction of every weight that a step of AdamW removes."""


def check(target: Target) -> Iterator[Finding]:
    yield from _rates(target)
    if not target.optimizers:
        raise NotJudged("no optimizer was given")
    frozen = target.fresh()
    frozen.set_lr(0.0)
    norms, modes = _record(frozen, UPDATES)
    if not norms:
        raise NotJudged("no gradient reaches the first parameter")
    if norms[-1] > GROWN * norms[0] > 0:
        # They may be cleared every n-th call, if an update accumulates over calls.
        norms = _record(target.fresh(), MAX_CALLS)[0]
    if norms[-1] > GROWN * norms[0] > 0 and not any(b < FALLEN * a for a, b in pairwise(norms)):
        yield _no_zero_grad(norms)
    if target.dropout and modes and not any(modes):
        yield _eval_in_training(target.dropout)


def _rates(target: Target) -> Iterator[Finding]:
    """Yield findings on rates that prevent learning."""
    if target.dropout is not None and target.dropout > MAX_DROPOUT:
        yield _dropout_too_high(target.dropout)
    groups = [group for optimizer in target.optimizers for group in optimizer.param_groups]
    decays = [(float(g["lr"]), float(g.get("weight_decay") or 0.0)) for g in groups]
    shrinking = max((lr * decay for lr, decay in decays if decay > 1), default=0.0)
    if shrinking > MAX_SHRINKING:
        yield _weight_decay_too_high(shrinking)


def _record(trial: Target, updates: int) -> tuple[list[float], list[bool]]:
    """Return one parameter's accumulated gradient norm in each update, and the modes in which its module ran."""
    norms_of_update: list[float] = []
    modes: list[bool] = []
    embedding = next((m for m in trial.model.modules() if isinstance(m, nn.Embedding)), trial.model)
    parameter = next((p for p in embedding.parameters() if p.requires_grad), None)
    if parameter is None:
        return [], []

    def accumulated(p: Tensor) -> None:
        if p.grad is not None:
            norms_of_update.append(float(p.grad.norm()))

    def called(module: nn.Module, inputs: Any) -> None:
        modes.append(trial.model.training)

    handles = [
        parameter.register_post_accumulate_grad_hook(accumulated),  # type: ignore[no-untyped-call]
        embedding.register_forward_pre_hook(called),
    ]
    norms = []
    weights = [p.detach().clone() for p in trial.model.parameters()]
    try:
        for _ in range(updates):
            norms_of_update.clear()
            trial.apply_update(trial.probe.batch)
            norms += norms_of_update[-1:]
            with torch.no_grad():
                # An update may set its own learning rate, so the weights are restored in any case.
                for p, before in zip(trial.model.parameters(), weights, strict=True):
                    p.copy_(before)
    finally:
        for handle in handles:
            handle.remove()
    return norms, modes


def _no_zero_grad(norms: list[float]) -> Finding:
    return Finding(
        code="no_zero_grad",
        title="The gradients are never cleared, so they add up over the steps.",
        evidence=f"with frozen weights, the norm of a gradient goes {', '.join(f'{n:.3g}' for n in norms[:4])} …",
        why="Each step follows the sum of all earlier gradients, most of them computed at old weights.",
        fix="Call optimizer.zero_grad() once per step, before backward().",
        explains=("lr_too_high", "cannot_overfit"),
    )


def _eval_in_training(dropout: float) -> Finding:
    return Finding(
        code="eval_in_training",
        title=f"The model trains in evaluation mode, so its dropout of {dropout:g} is never applied.",
        evidence="model.training is False in every forward pass of an update",
        why="Regularization is off, so training and validation loss drift apart.",
        fix="Call model.train() before each step; an evaluation leaves the model in evaluation mode.",
    )


def _dropout_too_high(dropout: float) -> Finding:
    return Finding(
        code="dropout_too_high",
        title=f"Dropout removes {dropout:.0%} of all activations.",
        evidence=f"rate {dropout:g}; 0 to 0.5 is typical",
        why="Almost none of the input reaches the loss. In PyTorch, p is the probability of dropping, not of keeping.",
        fix="Use 0 to overfit on purpose, and 0.1 to 0.3 for small datasets.",
        proposal={"model.dropout": 0.1},
    )


def _weight_decay_too_high(shrinking: float) -> Finding:
    return Finding(
        code="weight_decay_too_high",
        title=f"Weight decay removes {shrinking:.0%} of every weight at each step.",
        evidence=f"lr × weight decay = {shrinking:.3g}; 1e-5 is typical",
        why="The weights shrink faster than they learn.",
        fix="Use a weight decay of 0 to 0.1.",
        proposal={"optim.weight_decay": 0.01},
        explains=("cannot_overfit",),
    )
