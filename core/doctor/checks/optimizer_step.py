"""Does an update call backward and step, and does the step get what backward gave? Cost: one update, or as many as an
update that accumulates over calls needs."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject

CALLS = 33
"""Longer than any number of calls that one accumulates gradients over here."""
CLIPPED = 1e-6
"""Of the gradient's norm: no clipping that is meant leaves less."""
OPPOSED = -0.5
"""Cosine between what a step gets and the loss's gradient, below which it climbs; dropout keeps it well above 0."""


class Record:
    """What an update did: the squared norms of what backward gave, and what a step got, by parameter."""

    def __init__(self, trial: Subject) -> None:
        self.called = self.stepped = self.closed = False
        self.went: dict[int, float] = {}
        self.got: dict[int, Tensor] = {}
        for module in trial.model.modules():
            module.register_forward_pre_hook(self._forward)
        for p in trial.model.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(self._back)  # type: ignore[no-untyped-call]
        for optimizer in trial.optimizers:
            optimizer.register_step_pre_hook(self._stepping)

    def _forward(self, *_: Any) -> None:
        self.called = True

    def _back(self, p: Tensor) -> None:
        if p.grad is not None:
            self.went[id(p)] = float(p.grad.norm()) ** 2

    def _stepping(self, optimizer: Any, positional: Any, named: Any) -> None:
        self.stepped = True
        # LBFGS calls backward within its step.
        self.closed = self.closed or any(map(callable, [*positional, *named.values()]))
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.got[id(p)] = p.grad.detach().to_dense().clone()


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    if not subject.optimizers:
        raise Skip("no optimizer was given")
    if not any(p.requires_grad for p in subject.model.parameters()):
        raise Skip("no parameter asks for a gradient")
    trial = subject.fresh()
    record = Record(trial)
    for _ in range(CALLS):
        torch.manual_seed(trial.seed)
        trial.update(trial.model, trial.optimizers, probe.x, probe.y)
        if record.stepped and record.went or not record.called:
            break
    if not record.called:
        yield _stranger()
    elif not record.went:
        yield from _no_backward(trial, probe)
    elif not record.stepped:
        yield _said(
            "no_step",
            "An update never calls the optimizer's step().",
            f"{CALLS} updates, gradients in each, no step",
            "The weights stay as they were initialised.",
            "optimizer.step() after loss.backward().",
        )
    elif not record.closed:
        held = {id(p) for o in trial.optimizers for group in o.param_groups for p in group["params"]}
        went = sum(size for key, size in record.went.items() if key in held) ** 0.5
        got = sum(float(gradient.norm()) ** 2 for key, gradient in record.got.items() if key in held) ** 0.5
        found = list(_lost_on_the_way(went, got))
        yield from found
        if not found and _climbs(subject, trial, record, probe):
            yield _ascent()


def _climbs(subject: Subject, trial: Subject, record: Record, probe: Probe) -> bool:
    """Whether the step goes along the gradient of the loss, not against it."""
    if any(group.get("maximize") for optimizer in trial.optimizers for group in optimizer.param_groups):
        return True
    fresh = subject.fresh()
    fresh.model.train()
    loss = fresh.loss(probe.x, probe.y)
    pairs = [(record.got[id(p)], own) for p, own in zip(trial.model.parameters(), fresh.model.parameters(), strict=True)
             if id(p) in record.got]  # fmt: skip
    if not loss.requires_grad or not pairs:
        return False
    true = torch.autograd.grad(loss, [own for _, own in pairs], allow_unused=True)
    products = [(float((got * t).sum()), float(got.norm()), float(t.norm()))
                for (got, _), t in zip(pairs, true, strict=True) if t is not None]  # fmt: skip
    sizes = sum(g**2 for _, g, _ in products) ** 0.5 * sum(t**2 for _, _, t in products) ** 0.5
    return bool(sum(dot for dot, _, _ in products) < OPPOSED * sizes)


def _no_backward(trial: Subject, probe: Probe) -> Iterator[Finding]:
    """Only where the loss could have given gradients."""
    if trial.loss(probe.x, probe.y).requires_grad:
        yield _said(
            "no_backward",
            "An update never calls backward() on the model's loss.",
            f"{CALLS} updates, no parameter got a gradient",
            "Without gradients a step changes nothing.",
            "loss.backward() before optimizer.step(), on the very loss that was computed from this model.",
        )


def _lost_on_the_way(went: float, got: float) -> Iterator[Finding]:
    if went > 0 and got == 0:
        yield _said(
            "cleared_before_step",
            "The gradients are cleared between backward() and step().",
            f"backward gave a gradient of norm {went:.3g}, the step got none",
            "The step moves nothing, or along old averages alone.",
            "zero_grad() at the start of a step, before backward().",
        )
    elif 0 < got < CLIPPED * went:
        yield _said(
            "gradient_clipped",
            "Clipping leaves nearly nothing of the gradient.",
            f"backward gave a gradient of norm {went:.3g}, the step got {got:.3g}",
            "With SGD the weights hardly move; Adam divides the tiny gradient by its own size and by its epsilon.",
            "Clip to a norm of about 1.",
        )


def _stranger() -> Finding:
    return Finding(
        "update_ignores_model",
        "The update does not use the model that it is given.",
        "no module of it was called in an update",
        "What cannot be tried on a copy cannot be examined.",
        "In Case.update use its arguments, model and optimizers; they are copies of yours.",
        explains=("missing_gradient",),
    )


def _ascent() -> Finding:
    return _said(
        "gradient_ascent",
        "The steps climb: they go along the gradient of the loss.",
        "what the step gets points against the loss's gradient, or the optimizer maximises",
        "Each update makes the right tokens less likely.",
        "loss.backward() on the loss itself, and no maximize=True.",
    )


def _said(code: str, verdict: str, evidence: str, why: str, fix: str) -> Finding:
    return Finding(code, verdict, evidence, why, fix, explains=("cannot_overfit", "lr_too_low", "no_zero_grad"))
