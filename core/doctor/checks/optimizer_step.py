"""Does an update call backward and step, and does the step get what backward gave?

Cost: one update, or as many as gradient accumulation over calls needs.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, FindingCode, NotJudged
from tui_lab.core.doctor.target import MAX_CALLS, Target

CLIPPED = 1e-6
"""Fraction of the gradient's norm that the step gets: no intended clipping leaves less."""
OPPOSED = -0.5
"""Cosine between what a step gets and the loss's gradient below which it climbs; dropout keeps it well above 0."""
EXPLAINS: tuple[FindingCode, ...] = ("cannot_overfit", "lr_too_low", "no_zero_grad")


class UpdateRecord:
    """Records an update through hooks on the model and its optimizers.

    squared_norms: of the gradients that backward gave, by parameter id. gradients: what the step got, by parameter id.
    """

    def __init__(self, trial: Target) -> None:
        self.called = False
        self.stepped = False
        self.with_closure = False
        self.squared_norms: dict[int, float] = {}
        self.gradients: dict[int, Tensor] = {}
        for module in trial.model.modules():
            module.register_forward_pre_hook(self._forward)
        for p in trial.model.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(self._accumulated)  # type: ignore[no-untyped-call]
        for optimizer in trial.optimizers:
            optimizer.register_step_pre_hook(self._stepping)

    def _forward(self, *_: Any) -> None:
        self.called = True

    def _accumulated(self, p: Tensor) -> None:
        if p.grad is not None:
            self.squared_norms[id(p)] = float(p.grad.norm()) ** 2

    def _stepping(self, optimizer: Any, positional: Any, named: Any) -> None:
        self.stepped = True
        # LBFGS calls backward within its step.
        self.with_closure = self.with_closure or any(map(callable, [*positional, *named.values()]))
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.gradients[id(p)] = p.grad.detach().to_dense().clone()


def check(target: Target) -> Iterator[Finding]:
    if not target.optimizers:
        raise NotJudged("no optimizer was given")
    if not any(p.requires_grad for p in target.model.parameters()):
        raise NotJudged("no parameter requires a gradient")
    trial = target.fresh()
    record = UpdateRecord(trial)
    for _ in range(MAX_CALLS):
        trial.apply_update(trial.probe.batch)
        if record.stepped and record.squared_norms or not record.called:
            break
    if not record.called:
        yield _update_ignores_model()
    elif not record.squared_norms:
        # Only if the loss could have given gradients.
        if trial.loss(trial.probe.batch).requires_grad:
            yield _no_backward()
    elif not record.stepped:
        yield _no_step()
    elif not record.with_closure:
        yield from _judge_step(target, trial, record)


def _judge_step(target: Target, trial: Target, record: UpdateRecord) -> Iterator[Finding]:
    held = {id(p) for o in trial.optimizers for group in o.param_groups for p in group["params"]}
    given = sum(size for key, size in record.squared_norms.items() if key in held) ** 0.5
    received = sum(float(gradient.norm()) ** 2 for key, gradient in record.gradients.items() if key in held) ** 0.5
    if given > 0 and received == 0:
        yield _cleared_before_step(given)
    elif 0 < received < CLIPPED * given:
        yield _gradient_clipped(given, received)
    elif _climbs(target, trial, record):
        yield _gradient_ascent()


def _climbs(target: Target, trial: Target, record: UpdateRecord) -> bool:
    """Return whether the step follows the gradient of the loss instead of opposing it."""
    if any(group.get("maximize") for optimizer in trial.optimizers for group in optimizer.param_groups):
        return True
    fresh = target.fresh()
    fresh.model.train()
    loss = fresh.loss(target.probe.batch)
    pairs = [
        (record.gradients[id(p)], own)
        for p, own in zip(trial.model.parameters(), fresh.model.parameters(), strict=True)
        if id(p) in record.gradients
    ]
    if not loss.requires_grad or not pairs:
        return False
    true_gradients = torch.autograd.grad(loss, [own for _, own in pairs], allow_unused=True)
    dot, received, true = 0.0, 0.0, 0.0
    for (gradient, _), true_gradient in zip(pairs, true_gradients, strict=True):
        if true_gradient is not None:
            dot += float((gradient * true_gradient).sum())
            received += float(gradient.norm()) ** 2
            true += float(true_gradient.norm()) ** 2
    return dot < OPPOSED * math.sqrt(received * true)


def _update_ignores_model() -> Finding:
    return Finding(
        code="update_ignores_model",
        title="The update does not use the model that it is given.",
        evidence="none of its modules was called during an update",
        why="The doctor runs updates on copies, so it cannot check this one.",
        fix="In Case.update, use the model and the optimizers passed as arguments; they are copies of yours.",
        explains=("missing_gradient",),
    )


def _no_backward() -> Finding:
    return Finding(
        code="no_backward",
        title="The update never calls backward() on the model's loss.",
        evidence=f"no parameter got a gradient in {MAX_CALLS} updates",
        why="A step without gradients changes nothing.",
        fix="Call loss.backward() before optimizer.step(), on the loss that was computed from this model.",
        explains=EXPLAINS,
    )


def _no_step() -> Finding:
    return Finding(
        code="no_step",
        title="The update never calls optimizer.step().",
        evidence=f"gradients but no step in {MAX_CALLS} updates",
        why="The weights keep their initial values.",
        fix="Call optimizer.step() after loss.backward().",
        explains=EXPLAINS,
    )


def _cleared_before_step(given: float) -> Finding:
    return Finding(
        code="cleared_before_step",
        title="The gradients are cleared between backward() and step().",
        evidence=f"backward() gave a gradient of norm {given:.3g}, but the step received none",
        why="The step changes nothing, or only follows stale momentum.",
        fix="Call zero_grad() at the start of a step, before backward().",
        explains=EXPLAINS,
    )


def _gradient_clipped(given: float, received: float) -> Finding:
    return Finding(
        code="gradient_clipped",
        title="Clipping removes almost all of the gradient.",
        evidence=f"backward() gave a gradient of norm {given:.3g}, but the step received {received:.3g}",
        why="SGD barely moves the weights; Adam divides the tiny gradient by its own size plus epsilon.",
        fix="Clip to a norm of about 1.",
        explains=EXPLAINS,
    )


def _gradient_ascent() -> Finding:
    return Finding(
        code="gradient_ascent",
        title="The steps increase the loss.",
        evidence="the step receives a gradient opposite to the loss's own, or the optimizer was created with "
        "maximize=True",
        why="Each step makes the correct tokens less likely.",
        fix="Call loss.backward() on the loss itself, without maximize=True.",
        explains=EXPLAINS,
    )
