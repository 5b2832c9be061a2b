"""Are the rates of the loop plausible, and does its schedule advance once per step?

Cost: none beyond the record of the loop.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn

from tui_lab.core.doctor.checks.training.rate_course import check_course
from tui_lab.core.doctor.checks.training.schedules import check_schedules
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.reading import line_of, require_updates, why_not_repeatable
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.program.target import Target

MAX_DROPOUT = 0.75
"""Higher rates suggest a keep probability: Srivastava et al. 2014 use 0.2 to 0.5."""
MAX_SHRINKING = 0.1
"""lr × weight decay: the fraction of every weight that a step of AdamW removes."""
MIN_UPDATES = 3
MIN_CHANGES = 10
"""Updates from which the size of their changes is judged."""
LARGE_CHANGE = 0.3
SMALL_CHANGE = 1e-7
"""Relative change of all weights by a step. Healthy small models measure 1e-5 to 0.05, fine-tuning 1e-6."""
DECAY_OF_NORMS = 0.1
"""Weight decay from which the decay of norms and biases is mentioned: the value of GPT-3 (Brown et al. 2020), whose
followers leave them out. The default of AdamW, 0.01, makes no difference."""


def check(target: Target) -> Iterator[Finding]:
    yield from _settings(target)
    record = target.loop
    require_updates(record.updates, MIN_UPDATES)
    if reason := why_not_repeatable(record):
        yield from _changes(record)
        raise NotJudged(reason)
    schedules = list(check_schedules(record))
    yield from schedules
    if not any(finding.kind == "finding" for finding in schedules):  # It would explain the course.
        yield from check_course(record)
    if not record.is_rehearsal:
        yield from _changes(record)
    if not record.skipped and record.updates[0].events_of("schedule"):
        yield _before_step(record.updates)


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


def _changes(record: LoopRecord) -> Iterator[Finding]:
    """Mention updates whose size is far from what works. What happens to the loss decides, so these are hints."""
    updates = [update for update in record.updates if update.highest_lr > 0 or record.moves_by_hand]
    if len(updates) < MIN_CHANGES:
        return
    changes = sorted(update.relative_change for update in updates if math.isfinite(update.relative_change))
    # With weights that are no longer finite, the first step shows how it began.
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


def _before_step(updates: Sequence[UpdateRecord]) -> Finding:
    n_backwards = len(updates[0].losses)
    per_update = min(_most_of_one_line(update) for update in updates[1:])
    if per_update > 1 and per_update == n_backwards:
        return Finding(
            code="schedule_before_step",
            title=f"The scheduler steps {per_update} times per update: with each micro-batch.",
            evidence=f"each update has {n_backwards} backward calls and as many calls of scheduler.step(), the first "
            "one before optimizer.step()",
            why=f"The schedule advances {per_update} times as fast as the updates, so a warm-up is {per_update} times "
            "shorter, and a schedule that counts updates is used up early.",
            fix="Call scheduler.step() once per update, after optimizer.step().",
            location=line_of(updates[0], "schedule"),
        )
    return Finding(
        code="schedule_before_step",
        title="The scheduler steps before the optimizer does.",
        evidence="in the first update, scheduler.step() comes before optimizer.step()",
        why="The first value of the schedule is skipped, and all others come one step early.",
        fix="Call scheduler.step() after optimizer.step().",
        location=line_of(updates[0], "schedule"),
    )


def _most_of_one_line(update: UpdateRecord) -> int:
    """Return how often the scheduler steps in an update, of several lines of code that of the most frequent one."""
    return max(Counter(event.line for event in update.events_of("schedule")).values(), default=0)


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
