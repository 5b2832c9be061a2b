"""Does an update call backward and step, and does the step get what backward gave?

Cost: one update of a copy, or as many as gradient accumulation over calls needs; the rest is read from the record of
the loop.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, FindingCode, NotJudged
from tui_lab.core.doctor.loop.reading import direction, line_between, line_of
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.program.target import MAX_CALLS, Target

CLIPPED = 1e-6
"""Fraction of the gradient's norm that the step gets: no intended clipping leaves less."""
OPPOSED = -0.5
"""Cosine between what a step gets and the loss's gradient below which it climbs; dropout keeps it well above 0."""
EXPLAINS: tuple[FindingCode, ...] = ("cannot_overfit", "lr_too_low", "no_zero_grad", "weights_never_move")


class TrialUpdates:
    """Records updates of a copy through hooks on the model and its optimizers.

    gradients: what the step got, by parameter id.
    """

    def __init__(self, trial: Target) -> None:
        self.called = False
        self.stepped = False
        self.has_gradient = False
        self.with_closure = False
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
        self.has_gradient = True

    def _stepping(self, optimizer: Any, positional: Any, named: Any) -> None:
        self.stepped = True
        # LBFGS calls backward within its step.
        self.with_closure = self.with_closure or any(map(callable, [*positional, *named.values()]))
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.gradients[id(p)] = p.grad.detach().to_dense().clone()


def check(target: Target) -> Iterator[Finding]:
    if target.record is not None and target.record.moves_by_hand:
        raise NotJudged("the loop changes its weights by hand; only steps of torch's optimizers are examined")
    if not target.optimizers:
        raise NotJudged("no optimizer was given")
    if not any(p.requires_grad for p in target.model.parameters()):
        raise NotJudged("no parameter requires a gradient")
    if target.record is not None:
        yield from _judge_record(target, target.record)
    else:
        yield from _judge_copy(target)


def _judge_copy(target: Target) -> Iterator[Finding]:
    """Judge what the update does with a copy."""
    trial = target.fresh()
    updates = TrialUpdates(trial)
    for _ in range(MAX_CALLS):
        trial.apply_update(trial.probe.batch)
        if updates.stepped and updates.has_gradient or not updates.called:
            break
    if not updates.called:
        yield _update_ignores_model()
    elif not updates.has_gradient:
        # Only if the loss could have given gradients.
        if trial.loss(trial.probe.batch).requires_grad:
            yield _no_backward(f"no parameter got a gradient in {MAX_CALLS} updates")
    elif not updates.stepped:
        yield _no_step(f"gradients but no step in {MAX_CALLS} updates")
    elif not updates.with_closure:
        received = list(_received(target.loop.updates))
        yield from received
        if not received and _climbs(target, trial, updates):
            yield _gradient_ascent()


def _judge_record(target: Target, record: LoopRecord) -> Iterator[Finding]:
    """Judge what the user's own loop did."""
    n_backward = sum(event.operation == "backward" for event in record.remaining)
    if not record.updates:
        if n_backward >= MAX_CALLS or (record.has_ended and n_backward > 1):
            location = next((event.line for event in record.remaining if event.operation == "backward"), "")
            yield _no_step(f"{n_backward} calls of backward(), and none of step()", location)
        elif not n_backward:
            raise NotJudged("the loop made no update while it was recorded")
    elif not any(update.losses for update in record.updates):
        # torch.autograd.grad gives gradients without a backward call.
        if not any(update.received for update in record.updates):
            n = len(record.updates)
            yield _no_backward(f"{n} steps, without a gradient in any of them", line_of(record.updates[-1], "step"))
    else:
        received = list(_received(record.updates))
        yield from received
        climbs = any(group.get("maximize") for o in target.optimizers for group in o.param_groups)
        signs = [direction(measurement) for measurement in record.measurements]
        if not received and (climbs or any(sign is not None and sign < OPPOSED for sign in signs)):
            yield _gradient_ascent(line_of(record.updates[0], "backward"))


def _received(all_updates: Sequence[UpdateRecord]) -> Iterator[Finding]:
    """Compare what the steps of all updates received with what backward gave."""
    updates = [update for update in all_updates if update.losses and not update.searches and update.given > 0]
    if not updates:
        return
    last = updates[-1]
    if all(update.received == 0 for update in updates):
        yield _cleared_before_step(updates[0], line_between(last, "zero_grad", "backward", "step"))
    elif all(0 < update.received < CLIPPED * update.given and update.loss_scale == 1 for update in updates):
        yield _gradient_clipped(updates[0])


def _climbs(target: Target, trial: Target, updates: TrialUpdates) -> bool:
    """Return whether the step follows the gradient of the loss instead of opposing it."""
    if any(group.get("maximize") for optimizer in trial.optimizers for group in optimizer.param_groups):
        return True
    fresh = target.fresh()
    fresh.model.train()
    loss = fresh.loss(target.probe.batch)
    pairs = [
        (updates.gradients[id(p)], own)
        for p, own in zip(trial.model.parameters(), fresh.model.parameters(), strict=True)
        if id(p) in updates.gradients
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


def _no_backward(evidence: str, location: str = "") -> Finding:
    return Finding(
        code="no_backward",
        title="The update never calls backward() on the model's loss.",
        evidence=evidence,
        why="A step without gradients changes nothing.",
        fix="Call loss.backward() before optimizer.step(), on the loss that was computed from this model.",
        location=location,
        explains=EXPLAINS,
    )


def _no_step(evidence: str, location: str = "") -> Finding:
    return Finding(
        code="no_step",
        title="The update never calls optimizer.step().",
        evidence=evidence,
        why="The weights keep their initial values.",
        fix="Call optimizer.step() after loss.backward().",
        location=location,
        explains=EXPLAINS,
    )


def _cleared_before_step(update: UpdateRecord, location: str) -> Finding:
    return Finding(
        code="cleared_before_step",
        title="The gradients are cleared between backward() and step().",
        evidence=f"backward() gave a gradient of norm {update.given:.3g}, but the step received none",
        why="The step changes nothing, or only follows stale momentum.",
        fix="Call zero_grad() at the start of a step, before backward().",
        location=location,
        explains=EXPLAINS,
    )


def _gradient_clipped(update: UpdateRecord) -> Finding:
    limits = [event.value for event in update.events_of("clip") if event.value is not None]
    limit = f" to {min(limits):g}" if limits else ""
    return Finding(
        code="gradient_clipped",
        title=f"Clipping{limit} removes almost all of the gradient.",
        evidence=f"backward() gave a gradient of norm {update.given:.3g}, but the step received {update.received:.3g}",
        why="SGD barely moves the weights; Adam divides the tiny gradient by its own size plus epsilon.",
        fix="Clip to a norm of about 1." if limits else "Look for what makes the gradients small before step().",
        location=line_of(update, "clip"),
        explains=EXPLAINS,
    )


def _gradient_ascent(location: str = "") -> Finding:
    return Finding(
        code="gradient_ascent",
        title="The steps increase the loss.",
        evidence="the step receives a gradient opposite to the loss's own, or the optimizer was created with "
        "maximize=True",
        why="Each step makes the correct tokens less likely.",
        fix="Call loss.backward() on the loss itself, without maximize=True.",
        location=location,
        explains=EXPLAINS,
    )
