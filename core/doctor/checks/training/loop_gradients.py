"""Does each step of the loop get the gradient of its mean loss: clipped in the right units and place, and divided?

Cost: none beyond the record of the loop.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from tui_lab.core.doctor.findings import Finding, FindingCode, NotJudged
from tui_lab.core.doctor.loop.reading import (
    MIN_LAST,
    and_others,
    between,
    line_of,
    named_at,
    require_finite_gradients,
    require_updates,
    some,
    target_weights,
)
from tui_lab.core.doctor.loop.record import LoopRecord, SkippedStep, UpdateRecord
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 2
MIN_UNMOVED = 10
"""Updates after which a weight that never moved is mentioned: a warm-up may begin with tiny steps."""
TOLERANCE = 0.02
"""Relative difference of norms that count as equal: rounding in bfloat16 gives 0.004."""
MEAN_TOLERANCE = 0.05
"""How far the weights of the targets of a mean may add up to something else than one, for the same reason."""
SAME_DIVISOR = 1e-3
"""Relative difference up to which losses are divided by the same number."""
SCALE_FREE = (
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.Adagrad,
    torch.optim.Adadelta,
    torch.optim.Rprop,
)
"""Optimizers that divide a gradient by its own size, so that a constant factor makes no difference (Kingma and Ba
2015, section 2.1). AdamW is an Adam."""
EXPLAINS: tuple[FindingCode, ...] = (
    "cannot_overfit",
    "lr_too_low",
    "lr_too_high",
    "gradient_clipped",
    "weights_never_move",
)


def check(target: Target) -> Iterator[Finding]:
    record = target.loop
    if skipped := _skipped_at_any_scale(record):
        yield _never_finite(skipped)
    updates = [update for update in record.updates if update.losses and not update.searches]
    require_updates(updates, MIN_UPDATES, "with a backward call")
    yield from _idle_optimizers(target, record)
    finite = [update for update in updates if math.isfinite(update.received)]
    if updates[0].not_finite and all(map(math.isfinite, updates[0].losses)):
        yield _not_finite(target, updates[0])
    elif all(_clipped_while_scaled(update) for update in updates):
        yield _clip_before_unscale(updates[0])
    elif finite and all(map(_steps_with_scale, finite)):
        yield _loss_scale_kept(finite[0])
    if (unscaled_at := _added_without_scale(updates)) is not None:
        yield _loss_not_scaled(updates[0], unscaled_at)
    if all(_clips_without_effect(update) for update in updates[1:]):
        yield _clip_without_effect(updates[1])
    if (accumulated := _accumulated(updates)) is not None:
        if _starts_from_means(record, accumulated):
            yield _not_divided(target, updates, accumulated)
        elif (divisor := _other_divisor(accumulated)) is not None:
            yield _divided_by_another(accumulated, divisor)
    yield from _never_moved(target, record)
    require_finite_gradients(updates)
    if accumulated is not None and not (_ratios(accumulated) or all(_weights(record, accumulated))):
        raise NotJudged(
            f"a step adds up the gradients of {len(accumulated.losses)} losses; whether they are divided by their "
            "number is not known, since none of torch's loss functions returned them"
        )


def _skipped_at_any_scale(record: LoopRecord) -> Sequence[SkippedStep]:
    """Return the steps that a GradScaler skipped after the last update, if no smaller scale will end that."""
    steps = record.skipped_last
    has_losses = all(math.isfinite(loss) for step in steps for loss in step.losses)
    is_lasting = len(steps) >= MIN_LAST and all(step.loss_scale <= 1 for step in steps[-MIN_LAST:])
    return steps if has_losses and is_lasting else ()


def _idle_optimizers(target: Target, record: LoopRecord) -> Iterator[Finding]:
    """Name optimizers of the model whose steps never got a gradient. A loss that reaches no weight is named earlier."""
    owned = {id(p) for p in target.model.parameters()}
    for idle in record.observed.idle:
        trainable = [p for p in idle.weights if p.requires_grad]
        if idle.n >= MIN_UNMOVED and trainable and any(id(p) in owned for p in trainable):
            yield Finding(
                code="missing_gradient",
                title=f"The {idle.kind} that steps{named_at(idle.line)} never gets a gradient for any of its "
                f"{len(trainable)} parameters.",
                evidence=f"in all of its {idle.n} steps, every gradient was zero or missing; it holds "
                + some([str(list(p.shape)) for p in trainable]),
                why="These weights keep their initial values, whatever the printed loss does.",
                fix="Compute the loss of this optimizer from what its own model returned, without .detach() or "
                "torch.no_grad(), and call zero_grad() before backward(), not after it.",
                location=idle.line,
                explains=("weights_never_move",),
            )


def _clipped_while_scaled(update: UpdateRecord) -> bool:
    """Return whether gradients were clipped that a GradScaler had multiplied and nothing had divided again."""
    events = between(update, "backward", "step")
    operations = [event.operation for event in events]
    if update.loss_scale <= 1 or "clip" not in operations:
        return False
    return "unscale" not in operations[: operations.index("clip")]


def _steps_with_scale(update: UpdateRecord) -> bool:
    """Return whether the step received the scaled gradient."""
    expected = update.loss_scale * update.given
    return update.loss_scale > 1 and abs(update.received - expected) < TOLERANCE * expected


def _added_without_scale(updates: Sequence[UpdateRecord]) -> str | None:
    """Return the line of a backward call without the loss scale beside one with it, if each update has one."""
    lines = [update.unscaled_at for update in updates]
    return lines[0] if all(line is not None for line in lines) else None


def _clips_without_effect(update: UpdateRecord) -> bool:
    """Return whether the update clips, but only outside of the calls from the first backward to the step."""
    operations = [event.operation for event in update.events]
    clips = [i for i, operation in enumerate(operations) if operation == "clip"]
    return bool(clips) and max(clips) < operations.index("backward")


def _accumulated(updates: Sequence[UpdateRecord]) -> UpdateRecord | None:
    """Return an update of the usual number of backward calls if the loop adds up the gradients of several rows.

    They must come from the same line and from different rows: two losses of one model are added on purpose. What an
    epoch leaves over may be added to the first update of the next one.
    """
    counts = Counter(len(update.losses) for update in updates)
    n = max(counts, key=lambda n: (counts[n], n))
    update = next(update for update in updates if len(update.losses) == n)
    if n < 2 or len(updates) > 2 and any(len(update.losses) < 2 for update in updates):
        return None
    same_line = len({event.line for event in update.events_of("backward")}) == 1
    if not same_line or update.restarts or len(set(update.rows)) <= len(update.rows) // n:
        return None
    # The loop may also divide the gradients themselves, without clipping them.
    is_kept = abs(update.received - update.given) < TOLERANCE * update.given or bool(update.events_of("clip"))
    return update if is_kept else None


def _starts_from_means(record: LoopRecord, update: UpdateRecord) -> bool:
    """Return whether each backward call of the update starts from the mean over its own targets."""
    if _ratios(update) and all(abs(ratio - 1) < MEAN_TOLERANCE for ratio in _ratios(update)):
        return True  # Label smoothing takes a part of the weight of each target.
    return all(each is not None and abs(each - 1) < MEAN_TOLERANCE for each in _weights(record, update))


def _weights(record: LoopRecord, update: UpdateRecord) -> list[float | None]:
    """Return the sum of the weights of the targets of each backward call, None where it is not known."""
    measured = [m for m in record.measurements if m.update == update.number]
    if len(measured) != len(update.losses):
        return [None] * len(update.losses)
    return [None if (weights := target_weights(m)) is None else float(weights.sum()) for m in measured]


def _ratios(update: UpdateRecord) -> list[float]:
    """Return each loss over the mean that torch's loss function returned; empty if that is not known of all."""
    ratios = [loss / mean for loss, mean in zip(update.losses, update.means, strict=False) if mean]
    return ratios if len(ratios) == len(update.losses) else []


def _other_divisor(update: UpdateRecord) -> int | None:
    """Return the number that every mean of the update is divided by, if it cannot be a division by their number n.

    Such are a smaller number, and n², which divides twice. Any other may be n times the weight of the loss.
    """
    n = len(update.losses)
    ratios = _ratios(update)
    if not ratios or min(ratios) <= 0:
        return None
    divisor = round(1 / ratios[0])
    is_constant = all(abs(ratio * divisor - 1) < SAME_DIVISOR for ratio in ratios)
    return divisor if is_constant and (1 < divisor < n or divisor == n * n) else None


def _never_moved(target: Target, record: LoopRecord) -> Iterator[Finding]:
    names = record.unmoved_with_gradient
    if not names or len(record.updates) < MIN_UNMOVED:
        return
    n_trainable = sum(p.requires_grad for p in target.model.parameters())
    yield Finding(
        code="weights_never_move",
        title=f"No step changes {len(names)} of {n_trainable} parameters, though they get a gradient.",
        evidence=f"equal to the last bit after {len(record.updates)} updates: " + some(names),
        why="They keep their initial values.",
        fix="Change them in the update, too."
        if record.moves_by_hand
        else "Check the learning rate of their parameter group. A change smaller than the precision of a weight's "
        "type, 1/256 of it in bfloat16, is rounded away: keep the weights in float32 and use autocast.",
        # A few may have tiny gradients only.
        kind="finding" if 2 * len(names) > n_trainable else "hint",
    )


def _not_finite(target: Target, update: UpdateRecord) -> Finding:
    names = [name for name, _ in target.model.named_parameters() if name in update.not_finite]
    last = names[-1] if names else update.not_finite[-1]
    loss = ", ".join(f"{loss:.4g}" for loss in update.losses[:3])
    return Finding(
        code="gradient_not_finite",
        title=f"The gradient of the first update is not finite: {last}{and_others(len(update.not_finite) - 1)}.",
        evidence=f"loss {loss}; infinite or NaN: {some(update.not_finite)}",
        why="One step with such a gradient makes every weight NaN.",
        fix=f"Between {last.rpartition('.')[0] or last} and the loss, look for a division by zero, the square root or "
        "logarithm of zero, or rows whose attention is masked everywhere; torch.autograd.set_detect_anomaly(True) "
        "names the operation.",
        location=line_of(update, "backward"),
        explains=EXPLAINS,
    )


def _never_finite(steps: Sequence[SkippedStep]) -> Finding:
    first, last = steps[0], steps[-1]
    return Finding(
        code="gradient_not_finite",
        title="The gradients are not finite at any loss scale, so GradScaler skips every step"
        + (f" after update {first.n_updates}." if first.n_updates else "."),
        evidence=f"{len(steps)} steps in a row were skipped, down to a loss scale of {last.loss_scale:g}; their losses "
        f"are finite, the last is {last.losses[-1] if last.losses else math.nan:.4g}",
        why="A skipped step changes no weight: the training stands still.",
        fix="Look for a division by zero, the square root or logarithm of zero, or numbers above 65,504, which float16 "
        "does not have; torch.autograd.set_detect_anomaly(True) names the operation.",
        location=last.line,
        explains=EXPLAINS,
    )


def _clip_before_unscale(update: UpdateRecord) -> Finding:
    clip = next(event for event in between(update, "backward", "step") if event.operation == "clip")
    norm = "" if clip.norm is None else f"clipping saw a norm of {clip.norm:,.4g}; "
    return Finding(
        code="clip_before_unscale",
        title="The gradients are clipped while they still carry the GradScaler's loss scale.",
        evidence=f"{norm}without the scale of {update.loss_scale:,.0f} the norm is {update.given:.3g}, and the step "
        f"received {update.received:.3g}; the limit was {clip.value:g}",
        why=f"GradScaler divides by {update.loss_scale:,.0f} after the clipping, so almost nothing is left.",
        fix="Call scaler.unscale_(optimizer) before clipping.",
        location=clip.line,
        explains=EXPLAINS,
    )


def _loss_scale_kept(update: UpdateRecord) -> Finding:
    return Finding(
        code="loss_scale_kept",
        title=f"The step gets gradients that are still multiplied by the loss scale, {update.loss_scale:,.0f}.",
        evidence=f"backward() gave a gradient of norm {update.given:.3g} without the scale; the step received "
        f"{update.received:.3g}",
        why="SGD makes steps that are far too large; clipping and weight decay are out of proportion.",
        fix="Call scaler.step(optimizer) instead of optimizer.step(), then scaler.update().",
        location=line_of(update, "step"),
        explains=EXPLAINS,
    )


def _loss_not_scaled(update: UpdateRecord, line: str) -> Finding:
    losses = ", ".join(f"{loss:.4g}" for loss in update.losses[:4])
    return Finding(
        code="loss_not_scaled",
        title="A loss is not multiplied by GradScaler's loss scale, and another one of the same weights is.",
        evidence=f"in each update, backward(){named_at(line)} adds to gradients that carry the loss scale of "
        f"{update.loss_scale:,.0f} one without it; the losses are {losses}",
        why=f"GradScaler divides the sum by {update.loss_scale:,.0f} before the step, so almost nothing is left of "
        "the gradient of that loss.",
        fix="Call scaler.scale(loss).backward() for each loss, or once for their sum.",
        location=line,
        explains=EXPLAINS,
    )


def _clip_without_effect(update: UpdateRecord) -> Finding:
    return Finding(
        code="clip_without_effect",
        title="Gradient clipping has no effect: it comes after the step and before the next backward().",
        evidence="in every update, the gradients are clipped before backward() computes new ones",
        why="Large gradients reach the step unclipped.",
        fix="Clip between backward() and step().",
        location=line_of(update, "clip"),
    )


def _not_divided(target: Target, updates: Sequence[UpdateRecord], undivided: UpdateRecord) -> Finding:
    losses = undivided.losses
    n = len(losses)
    has_effect = any(update.events_of("clip") for update in updates) or not all(
        isinstance(optimizer, SCALE_FREE) for optimizer in target.optimizers
    )
    return Finding(
        code="accumulation_not_divided",
        title=f"The losses of {n} micro-batches are added up, not averaged, so each step's gradient is {n} times too "
        "large.",
        evidence=f"{n} backward calls per step, each of the mean over its own targets (losses "
        + ", ".join(f"{loss:.3g}" for loss in losses[:4])
        + f"{' …' if n > 4 else ''})",
        why=f"It acts like {n} times the learning rate, and clipping cuts more than it should."
        if has_effect
        else "This optimizer divides by the gradient's own size, so it matters only once you clip or change it.",
        fix=f"Divide each loss by the number of micro-batches: (loss / {n}).backward(). In compute_loss of a Trainer "
        "of transformers, divide the sum of the losses by num_items_in_batch.",
        location=line_of(undivided, "backward"),
        kind="finding" if has_effect else "hint",
        explains=("lr_too_high",) if has_effect else (),
    )


def _divided_by_another(update: UpdateRecord, divisor: int) -> Finding:
    n = len(update.losses)
    by_both = divisor == n * n
    return Finding(
        code="accumulation_not_divided",
        title=f"Each of the {n} losses of a step is divided by {divisor}: "
        + ("twice by their number." if by_both else "not by their number."),
        evidence=f"{n} backward calls per step, each of its mean divided by {divisor}",
        why=f"The gradient of a step is {n / divisor:g} times that of the mean over its micro-batches.",
        fix=f"Divide each loss by {n} once"
        + (", either in compute_loss or in the loop that calls it." if by_both else ", unless the loss is meant so."),
        location=line_of(update, "backward"),
        kind="hint",
    )
