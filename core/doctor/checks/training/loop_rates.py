"""Are the rates of the loop plausible, and does its schedule advance once per step?

Cost: none beyond the record of the loop.
"""

import math
from collections.abc import Iterator, Sequence

from torch import nn

from tui_lab.core.doctor.checks.training.schedules import check_schedules
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.reading import line_of, named_at
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.program.target import Target

MAX_DROPOUT = 0.75
"""Higher rates suggest a keep probability: Srivastava et al. 2014 use 0.2 to 0.5."""
MAX_SHRINKING = 0.1
"""lr × weight decay: the fraction of every weight that a step of AdamW removes."""
MIN_UPDATES = 3
MIN_SCHEDULED = 10
"""Updates from which the course of the rates, or of the changes, is judged."""
USED_UP = 0.05
"""Of the highest rate: usual schedules spend less than a tenth of the training below it, at its end."""
LARGE_CHANGE = 0.3
SMALL_CHANGE = 1e-7
"""Relative change of all weights by a step. Healthy small models measure 1e-5 to 0.05, fine-tuning 1e-6."""
DECAY_OF_NORMS = 0.1
"""Weight decay from which the decay of norms and biases is mentioned: the value of GPT-3 (Brown et al. 2020), whose
followers leave them out. The default of AdamW, 0.01, makes no difference."""


def check(target: Target) -> Iterator[Finding]:
    yield from _settings(target)
    record = target.loop
    if len(record.updates) < MIN_UPDATES:
        raise NotJudged(f"the loop made {len(record.updates)} updates; {MIN_UPDATES} are needed")
    highest = [max(update.lrs) for update in record.updates if update.lrs]
    schedules = list(check_schedules(record))
    yield from schedules
    if any(finding.kind == "finding" for finding in schedules):
        pass  # It explains the rates.
    elif any(min(update.lrs, default=0.0) < 0 for update in record.updates):
        yield _crosses_zero(record.updates)
    elif (n_zero := _zero_at_first(highest)) >= MIN_SCHEDULED or not any(highest):
        yield _starts_at_zero(record.updates, n_zero)
    elif (number := _ends_at_zero(record)) is not None:
        yield _reaches_zero(record, number)
    elif (number := _used_up(record)) is not None:
        yield _too_fast(record.updates, number)
    if not record.is_rehearsal:
        yield from _changes(record)
    if not record.n_skipped and record.updates[0].events_of("schedule"):
        yield _before_step(record.updates[0])


def _settings(target: Target) -> Iterator[Finding]:
    """Judge settings that prevent learning whatever the loop does."""
    if target.dropout is not None and target.dropout > MAX_DROPOUT:
        yield _dropout_too_high(target.dropout)
    groups = [group for optimizer in target.optimizers for group in optimizer.param_groups]
    decays = [(float(g["lr"]), float(g.get("weight_decay") or 0.0)) for g in groups]
    shrinking = max((lr * decay for lr, decay in decays if decay > 1), default=0.0)
    if shrinking > MAX_SHRINKING:
        yield _weight_decay_too_high(shrinking)
    decayed = {id(p): g for g in groups if (g.get("weight_decay") or 0.0) >= DECAY_OF_NORMS for p in g["params"]}
    norms = [
        name
        for name, module in target.model.named_modules()
        if "norm" in type(module).__name__.lower()
        and any(id(p) in decayed for p in module.parameters(recurse=False))
        and not isinstance(module, nn.Embedding | nn.Linear)
    ]
    if norms:
        yield _decayed_norms(norms, max(float(group["weight_decay"]) for group in decayed.values()))


def _zero_at_first(rates: Sequence[float]) -> int:
    """Return how many of the first rates are zero."""
    return next((i for i, rate in enumerate(rates) if rate), len(rates))


def _ends_at_zero(record: LoopRecord) -> int | None:
    """Return the update from which on all rates are zero; None if they are not, or if it is the end of a real loop."""
    rates = [max(update.lrs, default=0.0) for update in record.updates]
    number = len(rates)
    while number and rates[number - 1] == 0:
        number -= 1
    n_zero = len(rates) - number
    return number if n_zero >= MIN_UPDATES and (record.is_rehearsal or n_zero > number) else None


def _used_up(record: LoopRecord) -> int | None:
    """Return the update from which on the rates of a real loop stay below USED_UP of the highest, or None.

    Only if that is in the first quarter of its updates and training continues: a schedule is planned for all of them.
    """
    rates = [max(update.lrs, default=0.0) for update in record.updates]
    number = len(rates)
    while number and rates[number - 1] < USED_UP * max(rates):
        number -= 1
    is_scheduled = any(update.events_of("schedule") for update in record.updates)
    is_early = len(rates) >= MIN_SCHEDULED and 4 * number <= len(rates)
    return number if is_scheduled and is_early and not record.is_rehearsal else None


def _changes(record: LoopRecord) -> Iterator[Finding]:
    """Mention updates whose size is far from what works. What happens to the loss decides, so these are hints."""
    updates = [update for update in record.updates if max(update.lrs, default=0.0) > 0]
    if len(updates) < MIN_SCHEDULED:
        return
    changes = sorted(update.relative_change for update in updates if math.isfinite(update.relative_change))
    # With weights that are no longer finite, the first step tells how it began.
    is_finite = len(changes) == len(updates)
    typical = changes[len(changes) // 2] if is_finite else updates[0].relative_change
    if typical > LARGE_CHANGE or 0 < typical < SMALL_CHANGE:
        is_large = typical > LARGE_CHANGE
        yield Finding(
            code="lr_too_high" if is_large else "lr_too_low",
            title=f"Each step changes the weights by {typical:.1e} of their size, which is very "
            f"{'much' if is_large else 'little'}.",
            evidence=f"{'the median' if is_finite else 'the first'} of {len(updates)} updates; about 1e-3 is usual",
            why="The weights cannot settle." if is_large else "Thousands of steps change nothing that matters.",
            fix=f"Try a {'lower' if is_large else 'higher'} learning rate.",
            kind="hint",
        )


def _micro_batches(updates: Sequence[UpdateRecord]) -> int:
    """Return how many backward calls an update has, if all have the same number."""
    counts = {len(update.losses) for update in updates}
    return counts.pop() if len(counts) == 1 else 1


def _crosses_zero(updates: Sequence[UpdateRecord]) -> Finding:
    number = next(update.number for update in updates if min(update.lrs, default=0.0) < 0)
    rates = [max(update.lrs) for update in updates[: number + 1]]
    return Finding(
        code="lr_schedule",
        title=f"The learning rate turns negative at update {number + 1}, so training undoes itself.",
        evidence=_course(rates, updates),
        why="With a negative rate every step increases the loss.",
        fix=_fix_of_schedule(updates),
        location=line_of(updates[number], "step"),
        explains=("cannot_overfit", "lr_too_low", "lr_too_high", "gradient_ascent"),
    )


def _reaches_zero(record: LoopRecord, number: int) -> Finding:
    updates = record.updates
    n = _micro_batches(updates)
    per_update = min(len(update.events_of("schedule")) for update in updates[1:])
    # Alone, a rate of zero may be the end of a short training.
    is_shown = per_update > 1 or not record.is_rehearsal
    return Finding(
        code="lr_schedule",
        title=f"The learning rate is zero from update {number + 1} on, so nothing is learned any more.",
        evidence=_course([max(update.lrs) for update in updates], updates)
        + (f"; the scheduler makes {per_update} steps per update" if per_update > 1 else ""),
        why="The schedule ends before the training does.",
        fix=_fix_of_schedule(updates)
        if n > 1 or per_update > 1
        else "Give the schedule the number of optimizer steps.",
        location=line_of(updates[number], "schedule") or line_of(updates[number], "step"),
        kind="finding" if is_shown else "hint",
    )


def _too_fast(updates: Sequence[UpdateRecord], number: int) -> Finding:
    highest = max(max(update.lrs) for update in updates)
    last = max(updates[-1].lrs)
    line = next((line for update in updates if (line := line_of(update, "schedule"))), "")
    return Finding(
        code="lr_schedule",
        title=f"The schedule is used up after {number} updates: the learning rate is {highest / last:.0f} times lower "
        "from then on.",
        evidence=f"{_course([max(update.lrs) for update in updates], updates)}; scheduler.step(){named_at(line)}",
        why="Almost all of the training runs at the final, tiny rate.",
        fix="If the schedule counts epochs, call scheduler.step() once per epoch; if it counts steps, give it the "
        "number of optimizer steps of the whole training.",
        location=line,
        explains=("lr_too_low",),
    )


def _course(rates: Sequence[float], updates: Sequence[UpdateRecord]) -> str:
    chosen = sorted({0, len(rates) // 2, len(rates) - 1})
    course = ", ".join(f"{rates[i]:.3g} at update {i + 1}" for i in chosen)
    n = _micro_batches(updates)
    return f"learning rate {course}" + (f"; each update has {n} backward calls" if n > 1 else "")


def _fix_of_schedule(updates: Sequence[UpdateRecord]) -> str:
    n = _micro_batches(updates)
    if n > 1:
        return (
            f"Count optimizer steps, not micro-batches: the schedule advances {n} times too fast if it counts the "
            f"backward calls. Or give it {n} times as many steps. Never let the rate fall below zero."
        )
    return "Give the schedule the real number of optimizer steps, and never let the rate fall below zero."


def _starts_at_zero(updates: Sequence[UpdateRecord], n_zero: int) -> Finding:
    is_all = n_zero == len(updates)
    which = "every update" if is_all else f"the first {n_zero} updates"
    return Finding(
        code="lr_zero",
        title=f"The learning rate is zero in {which}, so no weight moves.",
        evidence=f"{n_zero} of {len(updates)} updates have a rate of 0 in every parameter group",
        why="A step of size zero changes nothing.",
        fix="A warm-up that counts steps needs scheduler.step() after each optimizer step; called once per epoch, it "
        "stays at its first value for a whole epoch.",
        location=line_of(updates[0], "schedule") or line_of(updates[0], "step"),
        explains=("cannot_overfit", "lr_too_low", "weights_never_move"),
    )


def _before_step(update: UpdateRecord) -> Finding:
    line = line_of(update, "schedule")
    return Finding(
        code="schedule_before_step",
        title="The scheduler steps before the optimizer does.",
        evidence=f"in the first update, scheduler.step(){named_at(line)} comes before optimizer.step()",
        why="The first value of the schedule is skipped, and all others come one step early.",
        fix="Call scheduler.step() after optimizer.step().",
        location=line,
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


def _decayed_norms(norms: list[str], decay: float) -> Finding:
    return Finding(
        code="decayed_norms",
        title=f"Weight decay of {decay:g} also shrinks the scales of {len(norms)} normalization layers.",
        evidence="such as " + ", ".join(norms[:3]),
        why="It pulls the scales toward zero instead of one. Most recipes leave norms and biases out.",
        fix="Put parameters with fewer than two dimensions into a group of their own with weight_decay=0.",
        kind="hint",
    )
