"""Does an update call backward and step, and does the step get what backward gave?

Cost: one update of a copy, or as many as gradient accumulation over calls needs; the rest is read from the record of
the loop.
"""

import math
from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.findings import Finding, FindingCode, NotJudged
from tui_lab.core.doctor.loop.reading import (
    direction,
    line_between,
    line_of,
    require_finite_gradients,
    why_not_repeatable,
)
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.measures.update_trace import UpdateTrace, cosine_and_ratio, stated_gradients
from tui_lab.core.doctor.program.target import MAX_CALLS, Target

CLIPPED = 1e-6
"""Fraction of the gradient's norm that the step gets: no intended clipping leaves less."""
OPPOSED = -0.5
"""Cosine between what a step gets and the loss's gradient below which it climbs; healthy steps are well above 0."""
EXPLAINS: tuple[FindingCode, ...] = ("cannot_overfit", "lr_too_low", "no_zero_grad", "weights_never_move")


def check(target: Target) -> Iterator[Finding]:
    record = target.record
    if record is not None and record.moves_by_hand and not record.updates:
        raise NotJudged(why_not_repeatable(record))
    if record is None or not record.moves_by_hand:
        target.require_optimizers()
    if not any(p.requires_grad for p in target.model.parameters()):
        raise NotJudged("no parameter requires a gradient")
    if record is not None:
        yield from _judge_record(target, record)
    else:
        yield from _judge_copy(target)


def _judge_copy(target: Target) -> Iterator[Finding]:
    """Judge what the update does with a copy."""
    trace = UpdateTrace(target.fresh())
    trace.run(target.probe.batch, await_gradient=True)
    if not trace.called:
        yield _update_ignores_model()
    elif not trace.given:
        # Only if the loss could have given gradients.
        if trace.trial.loss(target.probe.batch).requires_grad:
            yield _no_backward(f"no parameter got a gradient in {MAX_CALLS} updates")
    elif not trace.stepped:
        yield _no_step(f"gradients but no step in {MAX_CALLS} updates")
    elif not trace.with_closure:
        lost = list(_lost_gradients(target.loop.updates))
        yield from lost
        if not lost and _climbs(target, trace):
            yield _gradient_ascent()


def _judge_record(target: Target, record: LoopRecord) -> Iterator[Finding]:
    """Judge what the user's own loop did."""
    n_backward = sum(event.operation == "backward" for event in record.remaining)
    if not record.updates:
        if n_backward >= MAX_CALLS or (record.has_ended and n_backward > 1):
            location = next((event.line for event in record.remaining if event.operation == "backward"), "")
            yield _no_step(f"{n_backward} calls of backward(), and none of step()", location)
        else:
            raise NotJudged("the loop made no update while it was recorded")
    elif not any(update.losses for update in record.updates):
        # torch.autograd.grad gives gradients without a backward call.
        if not any(update.received for update in record.updates):
            n = len(record.updates)
            yield _no_backward(f"{n} steps, without a gradient in any of them", line_of(record.updates[-1], "step"))
    else:
        lost = list(_lost_gradients(record.updates))
        yield from lost
        if not lost and _climbs_in_loop(target, record):
            yield _gradient_ascent(line_of(record.updates[0], "backward"), by_hand=record.climbs_by_hand)
        elif not lost:
            require_finite_gradients(record.updates)


def _lost_gradients(all_updates: Sequence[UpdateRecord]) -> Iterator[Finding]:
    """Compare what the steps of all updates received with what backward gave."""
    updates = [update for update in all_updates if update.losses and not update.searches and update.given > 0]
    if not updates:
        return
    last = updates[-1]
    if all(update.received == 0 for update in updates):
        yield _cleared_before_step(updates[0], line_between(last, "zero_grad", "backward", "step"))
    elif all(0 < update.received < CLIPPED * update.given and update.loss_scale == 1 for update in updates):
        yield _gradient_clipped(updates[0])


def _climbs_in_loop(target: Target, record: LoopRecord) -> bool:
    """Return whether the steps of the user's own loop follow the gradient of the loss instead of opposing it."""
    cosines = [cosine for measurement in record.measurements if (cosine := direction(measurement)) is not None]
    is_opposed = any(cosine < OPPOSED for cosine in cosines)
    if not record.climbs_by_hand:
        return target.maximizes or is_opposed
    # The loop adds the gradient, which is right for a likelihood, and wrong for what a loss function of torch returned.
    finite = [update for update in record.updates if all(map(math.isfinite, update.losses))]
    is_criterion = bool(finite) and all(update.means == update.losses for update in finite)
    return is_criterion or (bool(cosines) and not is_opposed)


def _climbs(target: Target, trace: UpdateTrace) -> bool:
    """Return whether the step follows the gradient of the loss instead of opposing it."""
    if target.maximizes:
        return True
    received = [trace.received.get(id(p)) for p in trace.trial.model.parameters()]
    cosine, _ = cosine_and_ratio(received, stated_gradients(target, target.probe.batch))
    return cosine < OPPOSED


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
        explains=(*EXPLAINS, "missing_gradient"),  # No step gets a gradient.
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


def _gradient_ascent(location: str = "", *, by_hand: bool = False) -> Finding:
    return Finding(
        code="gradient_ascent",
        title="The steps increase the loss.",
        evidence="every update by hand adds a multiple of the loss's gradient"
        if by_hand
        else "the step receives a gradient opposite to the loss's own, or the optimizer was created with maximize=True",
        why="Each step makes the correct tokens less likely.",
        fix="Subtract the gradient times the learning rate: p.data -= lr * p.grad."
        if by_hand
        else "Call loss.backward() on the loss itself, without maximize=True.",
        location=location,
        explains=EXPLAINS,
    )
