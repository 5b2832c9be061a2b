"""Does an update clear its gradients and train in training mode? Cost: four updates at learning rate 0."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.checks.optimizer_step import CALLS
from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject

UPDATES = 4
FALLEN = 0.9
GROWN = 1.02
"""With frozen weights and one seed each update has the same gradient; what is left over adds its clipped size."""


DROPPED = 0.75
"""A rate from which one suspects a keep probability: Srivastava et al. 2014 use 0.2 to 0.5."""
SHRINKING = 0.1
"""lr × weight decay: the share of every weight that a step of AdamW takes away."""


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    yield from _rates(subject)
    if not subject.optimizers:
        raise Skip("no optimizer was given")
    trial = subject.fresh()
    trial.set_lr(0.0)
    norms, modes = _watch(trial, probe, UPDATES)
    if not norms:
        raise Skip("no gradient reaches the first parameter")
    if norms[-1] > GROWN * norms[0] > 0:
        # They may be cleared every n-th call, where an update accumulates over calls.
        norms = _watch(subject.fresh(), probe, CALLS)[0]
    if norms[-1] > GROWN * norms[0] > 0 and not any(b < FALLEN * a for a, b in pairwise(norms)):
        yield Finding(
            "no_zero_grad",
            "The gradients are never cleared: they add up over the steps.",
            f"with frozen weights the gradient's norm goes {', '.join(f'{n:.3g}' for n in norms[:4])} …",
            "Each step goes along the sum of all gradients so far, most of them of weights that are long gone.",
            "optimizer.zero_grad() once in each step, before backward().",
            explains=("lr_too_high", "cannot_overfit"),
        )
    if subject.dropout and modes and not any(modes):
        yield Finding(
            "eval_in_training",
            f"The model trains in evaluation mode: its dropout of {subject.dropout:g} never acts.",
            "model.training is False in every forward pass of an update",
            "What was meant to regularise does nothing: training and validation drift apart.",
            "model.train() before the step, since evaluation leaves it in model.eval().",
        )


def _rates(subject: Subject) -> Iterator[Finding]:
    """Rates that undo what training does."""
    if subject.dropout is not None and subject.dropout > DROPPED:
        yield Finding(
            "dropout_too_high",
            f"Dropout takes away {subject.dropout:.0%} of all activations.",
            f"rate {subject.dropout:g}; usual are 0 to 0.5",
            "Hardly anything of the input reaches the loss. torch takes the share to drop, not the share to keep.",
            "0 to overfit on purpose, 0.1 to 0.3 for little data.",
            proposal={"model.dropout": 0.1},
        )
    groups = [group for optimizer in subject.optimizers for group in optimizer.param_groups]
    decays = [(float(g["lr"]), float(g.get("weight_decay") or 0.0)) for g in groups]
    shrinking = max((lr * decay for lr, decay in decays if decay > 1), default=0.0)
    if shrinking > SHRINKING:
        yield Finding(
            "weight_decay_too_high",
            f"Weight decay takes {shrinking:.0%} of every weight at each step.",
            f"lr × weight decay = {shrinking:.3g}; usual is 1e-5",
            "The weights shrink to nothing faster than they learn.",
            "A weight decay of 0 to 0.1.",
            proposal={"optim.weight_decay": 0.01},
            explains=("cannot_overfit",),
        )


def _watch(trial: Subject, probe: Probe, updates: int) -> tuple[list[float], list[bool]]:
    """The norm of one parameter's gradient as accumulated in each update, and the modes that its module ran in."""
    sizes: list[float] = []
    modes: list[bool] = []
    embedding = next((m for m in trial.model.modules() if isinstance(m, nn.Embedding)), trial.model)
    parameter = next((p for p in embedding.parameters() if p.requires_grad), None)
    if parameter is None:
        return [], []

    def accumulated(p: Tensor) -> None:
        if p.grad is not None:
            sizes.append(float(p.grad.norm()))

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
            sizes.clear()
            torch.manual_seed(trial.seed)
            trial.update(trial.model, trial.optimizers, probe.x, probe.y)
            norms += sizes[-1:]
            with torch.no_grad():
                # An update may set a learning rate of its own: the weights are put back all the same.
                for p, before in zip(trial.model.parameters(), weights, strict=True):
                    p.copy_(before)
    finally:
        for handle in handles:
            handle.remove()
    return norms, modes
