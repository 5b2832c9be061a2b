"""Does the update train on the loss that is stated? Cost: an update and a backward pass on a whole batch.

Without dropout, the gradient that an update's backward gives is that of the stated loss: 26 healthy trainings, among
them mixtures of experts, bf16 autocast and activation checkpointing, have a cosine of at least 0.9999 and a ratio of
1. Targets shifted in the update give 0.58, a softmax in the update a ratio of 0.01. What a loop does with the gradients
of several backward calls is judged by its own check.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.loss.loss_findings import loss_finding, mistake_in
from tui_lab.core.doctor.findings import Finding, FindingCode, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.loss_gradient import Measurement, measurements_of, recorded, stated
from tui_lab.core.doctor.measures.trained_targets import SHIFTS, agreement, shifted, trained_targets
from tui_lab.core.doctor.measures.update_trace import UpdateTrace, cosine_and_ratio, stated_gradients
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.target import Target

SAME = 0.999
"""Cosine from which two gradients are those of one loss. Dropout that cannot be switched off gives 0.997."""
OTHER = 0.9
"""Cosine below which the update trains another loss; terms that are added to it leave more."""
EQUAL = 0.02
"""Relative difference up to which two sizes are equal."""


def check(target: Target) -> Iterator[Finding]:
    real = recorded(target)
    if real and target.record is not None and not target.record.is_rehearsal:
        yield from _judge_recorded(target, real)
        return
    target.require_optimizers()
    if target.loss_function is None:
        raise NotJudged("no loss is stated, so there is nothing to compare the update with")
    yield from _compare(target, target.batch(0))


def _judge_recorded(target: Target, measured: Sequence[Measurement]) -> Iterator[Finding]:
    """Judge the losses of the real loop by themselves; the check of the loss has judged the one that is stated."""
    for finding in _mistakes(measured[:1], reported=_stated_mistake(target)):
        if finding.code != "gradient_ascent" or not target.maximizes:
            yield finding


def _stated_mistake(target: Target) -> FindingCode | None:
    """Return the mistake of the stated loss, which another check reports."""
    if target.loss_function is None:
        return None
    try:
        mistake = mistake_in(stated(target))
    except (NotJudged, NotApplicable):
        return None
    return None if mistake is None else mistake[0]


def _mistakes(measured: Sequence[Measurement], reported: FindingCode | None) -> Iterator[Finding]:
    """Yield the mistakes that the losses show by themselves, without the one that is `reported` already."""
    for one in measured:
        mistake = mistake_in(one)
        if mistake is not None and mistake[0] != reported:
            yield loss_finding(mistake[0], f"in the update, {mistake[1]}", one.logits.shape[2], one.line)


def _compare(target: Target, batch: Batch) -> Iterator[Finding]:
    true_gradients = stated_gradients(target, batch)
    trial = target.fresh()
    trace = UpdateTrace(trial)
    trace.run(batch)
    if not trace.given or not trace.stepped or trace.with_closure:
        raise NotJudged("no single step follows the backward pass")
    reported = _stated_mistake(target)
    measured = _measurements(trace)
    # Whether a step climbs is judged by the check of the optimizer's step.
    is_only_loss = len(measured) == trace.backward_calls == 1
    mistakes = _mistakes(measured[:1] if is_only_loss else [], reported)
    findings = [one for one in mistakes if one.code != "gradient_ascent"] or list(_moved(target, batch, measured))
    if findings:
        yield from findings
        return
    gradients = [trace.given.get(id(p)) for p in trial.model.parameters()]
    cosine, ratio = cosine_and_ratio(gradients, true_gradients)
    if not math.isfinite(cosine):
        raise NotJudged("the stated loss or the update gives no finite gradient")
    yield from _judge(target, trace, cosine, ratio)


def _measurements(trace: UpdateTrace) -> list[Measurement]:
    try:
        return measurements_of(trace)
    except NotJudged:
        return []


def _moved(target: Target, batch: Batch, measured: Sequence[Measurement]) -> Iterator[Finding]:
    """Yield a finding if the update trains other targets of the batch than the stated loss does."""
    tokens = target.tokens
    if tokens is None or tokens.y is None or len(measured) != 1 or measured[0].reading.form == "other":
        return
    shift = trained_targets(target).view_shift
    one = measured[0]
    y = tokens.y(batch)[: len(one.logits)].to(one.logits.device)
    if shift is None or y.shape != one.logits.shape[:2]:
        return
    reading = one.reading
    fits = {k: agreement(shifted(y, k), reading.targets, reading.counted) for k in SHIFTS}
    best = max(fits, key=lambda k: fits[k])
    if fits[best] > 0.98 and fits[shift] < 0.9:
        yield Finding(
            code="double_shift" if best > shift else "copied_targets",
            title=f"The update trains on targets of another position than the stated loss: y[t{best:+d}].",
            evidence=f"the gradient of the update's loss shows that position t is trained on y[t{best:+d}] "
            f"({fits[best]:.0%} of the targets), the stated loss on y[t{shift:+d}] ({fits[shift]:.0%} agree)",
            why="The model learns to skip a token." if best > shift else "The model learns to repeat a token.",
            fix="Shift once: in the loader, or in the loss, or by a model that shifts `labels` itself.",
            location=one.line,
            explains=("cannot_overfit",),
        )


def _judge(target: Target, trace: UpdateTrace, cosine: float, ratio: float) -> Iterator[Finding]:
    calls = trace.backward_calls
    measured_text = f"cosine {cosine:.4f}, ratio {ratio:.4g}"
    if cosine < -SAME:
        return  # The check of the optimizer's step reports it.
    if cosine >= SAME:
        if abs(ratio - 1) <= EQUAL or _is_loss_scale(trace, ratio):
            return
        if calls > 1 and abs(ratio - calls) <= EQUAL * calls:
            return  # The check of the loop's gradients reports it.
        raise NotJudged(f"the update's gradient is {ratio:.3g} times that of the stated loss")
    if _draws_its_own(target, trace):
        raise NotJudged("the update does not use the batch that it is given")
    if cosine < OTHER and calls == 1:
        yield _other_loss(measured_text)
        return
    raise NotJudged(f"the update's loss differs from the stated one ({measured_text})")


def _is_loss_scale(trace: UpdateTrace, ratio: float) -> bool:
    """Return whether the loss was multiplied by a power of two that the step does not see any more."""
    if ratio < 2 or abs(math.log2(ratio) - round(math.log2(ratio))) > 0.01:
        return False
    received_norm = _norm(list(trace.received.values()))
    given_norm = _norm([trace.given[key] for key in trace.received if key in trace.given])
    return received_norm <= 1.01 * given_norm / ratio


def _norm(gradients: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(gradient.double().norm()) ** 2 for gradient in gradients))


def _draws_its_own(target: Target, trace: UpdateTrace) -> bool:
    """Return whether another batch gives the very same gradient."""
    if not target.varies:
        return False
    again = UpdateTrace(target.fresh())
    again.run(target.batch(1))
    return len(again.given) == len(trace.given) and all(
        torch.equal(a, b) for a, b in zip(trace.given.values(), again.given.values(), strict=True)
    )


def _other_loss(measured: str) -> Finding:
    return Finding(
        code="other_loss",
        kind="hint",
        title="The update does not follow the gradient of the stated loss.",
        evidence=f"without dropout, on the same batch: {measured}; 26 healthy programs have a cosine of at least "
        "0.9999 and a ratio of 1",
        why="The loss that is trained is not the one that is shown.",
        fix="State the loss that the update computes, or look for what the update does to logits, targets or loss.",
    )
