"""Does each scheduler of learning rates count what the loop counts? Called by the check of the rates."""

import gc
import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, MultiStepLR, StepLR

from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.loop.observed import ScheduleUse
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.util.plural import counted

MAX_FACTOR = 0.05
"""Of a LambdaLR's function: one that never returns more does not return factors of the rate."""
CLEARLY_A_RATE = 0.01
MAX_BASE = 0.05
"""An optimizer's rate up to which it is meant as one; with lr=1 the function returns the rate itself."""
GRID = [*range(1001), *(int(10 ** (3 + i / 20)) for i in range(1, 61))]
"""Steps at which a schedule is read: all up to 1000, then up to 10**6."""
LOW = 0.2
"""Of the optimizer's rate, in all recorded updates, from which a warm-up is looked at."""
MIN_PER_STEP = 8
"""Updates for each step of the scheduler, from which it steps once an epoch."""
LONG_WARMUP = 50
"""Epochs: recipes warm up for 5 to 40 (DeiT 5, DINO 10, MAE 40)."""
MAX_LEFT = 1e-3
"""Of the rate at the end of the first epoch, below which a schedule is meant for epochs."""
EXPLAINS: tuple[FindingCode, ...] = ("lr_too_low", "cannot_overfit", "weights_never_move", "lr_zero")


@dataclass(frozen=True)
class Course:
    """What a LambdaLR does. warmup: steps until its largest factor. length: steps until it stays at zero, or None."""

    first: float
    largest: float
    warmup: int
    length: int | None


def check_schedules(record: LoopRecord) -> Iterator[Finding]:
    """Yield what is wrong with the first scheduler that has a fault."""
    uses = record.observed.schedules
    inner = {id(part) for use in uses for part in getattr(use.scheduler, "_schedulers", ())}
    for use in uses:
        if id(use.scheduler) in inner:  # Of SequentialLR, which steps it.
            continue
        finding = _rate_returned(use, record) or _counts_updates(use, record) or _counts_epochs(use, record)
        finding = finding or _rises_until_the_end(use, record)
        if finding is not None:
            yield finding
            return


def _course(scheduler: LambdaLR) -> Course | None:
    """Return what the functions of a LambdaLR give; None if they cannot be called."""
    try:
        factors = [_factor(scheduler, step) for step in GRID]
    except Exception:  # A function of the user that is made for a range of steps.
        return None
    largest = max(factors)
    if not largest > 0 or not math.isfinite(largest):
        return None
    top = next(i for i, factor in enumerate(factors) if factor >= 0.99 * largest)
    end = next((i for i in range(top, len(factors)) if factors[i] <= 1e-6 * largest), None)
    return Course(factors[0], largest, GRID[top], None if end is None or GRID[end] > 1000 else GRID[end])


def _base(scheduler: Any) -> float:
    return max((float(rate) for rate in getattr(scheduler, "base_lrs", ())), default=0.0)


def _rates(record: LoopRecord) -> list[float]:
    return [update.highest_lr for update in record.updates]


def _finding(use: ScheduleUse, *, title: str, evidence: str, why: str, fix: str, is_shown: bool = True) -> Finding:
    """Return a finding about a scheduler, or a hint if the fault is not shown."""
    return Finding(
        code="lr_schedule",
        kind="finding" if is_shown else "hint",
        title=title,
        evidence=evidence,
        why=why,
        fix=fix,
        location=use.line,
        explains=EXPLAINS,
    )


def _rate_returned(use: ScheduleUse, record: LoopRecord) -> Finding | None:
    """The function of a LambdaLR returns a rate, not a factor."""
    if not isinstance(use.scheduler, LambdaLR) or not 0 < (base := _base(use.scheduler)) <= MAX_BASE:
        return None
    course = _course(use.scheduler)
    if course is None or course.largest > MAX_FACTOR:
        return None
    is_shown = course.largest <= CLEARLY_A_RATE or 0.5 <= course.largest / base <= 2
    return _finding(
        use,
        title="The function of LambdaLR returns a learning rate, but LambdaLR multiplies it by the optimizer's rate.",
        evidence=f"it never returns more than {course.largest:.3g}, and the optimizer's rate is {base:.3g}, so the "
        f"rate never exceeds {base * course.largest:.3g}; it was at most {max(_rates(record)):.3g}",
        why=f"The rate is {1 / course.largest:,.0f} times smaller than the optimizer's.",
        fix="Return a factor: the rate divided by its peak; or create the optimizer with lr=1.0.",
        is_shown=is_shown,
    )


def _counts_updates(use: ScheduleUse, record: LoopRecord) -> Finding | None:
    """A warm-up counts optimizer steps, but the scheduler steps once an epoch."""
    if not isinstance(use.scheduler, LambdaLR) or len(record.updates) < MIN_PER_STEP:
        return None
    course = _course(use.scheduler)
    base = _base(use.scheduler)
    n = _updates_per_step(use, record)
    if course is None or n < MIN_PER_STEP or course.warmup < 2:
        return None
    rates = _rates(record)
    if max(rates) > LOW * base * course.largest:
        return None
    n_zero = len(list(itertools.takewhile(lambda rate: rate == 0, rates)))
    is_exact = course.length is not None and course.length >= n and course.length % n == 0
    is_shown = n_zero >= MIN_PER_STEP or course.warmup >= LONG_WARMUP or (is_exact and bool(use.updates))
    share = max(rates) / base if base else 0.0
    stepped = counted(len(use.updates), "step") if use.updates else "no step"
    return _finding(
        use,
        title=f"The warm-up of {course.warmup} steps advances at most once in {n} updates, so the learning rate stays "
        "low."
        if is_shown
        else f"The warm-up of {course.warmup} steps may advance once an epoch instead of once an update.",
        evidence=f"in {len(rates)} updates the scheduler made {stepped}; the rate was at most {max(rates):.3g}, "
        f"{share:.1%} of the optimizer's {base:.3g}"
        + (f", and 0 in the first {n_zero}" if n_zero > 1 else "")
        + (f"; its {course.length} steps are {course.length // n} × {n} updates" if is_exact and course.length else ""),
        why=f"At this pace the warm-up takes {course.warmup * n:,} updates.",
        fix="Call scheduler.step() after each optimizer step (in Lightning, return the scheduler with interval set to "
        "step), or count the warm-up in epochs.",
        is_shown=is_shown,
    )


def _rises_until_the_end(use: ScheduleUse, record: LoopRecord) -> Finding | None:
    """A warm-up has more steps than the training has updates."""
    planned = _planned_updates(record)
    rates = _rates(record)
    is_per_update = len(use.updates) >= len(rates) - 1
    if not isinstance(use.scheduler, LambdaLR) or planned < MIN_PER_STEP or not is_per_update:
        return None
    course = _course(use.scheduler)
    base = _base(use.scheduler)
    if course is None or course.warmup <= planned or rates[-1] < max(rates) or not base > 0:
        return None
    top, largest = _top(use.scheduler, course)
    peak = base * largest
    highest = max(rates[-1], base * _factor(use.scheduler, planned - 1))
    return _finding(
        use,
        title=f"The warm-up is longer than the training: about {top:,} steps, and {planned:,} updates.",
        evidence=f"the rate rises to at most {highest:.3g} until the last update; the schedule's peak is {peak:.3g}",
        why="The optimizer never gets the rate that was chosen for it, so it learns slowly or hardly at all.",
        fix="Give the warm-up a part of the updates, such as 5 %, or train for longer.",
        is_shown=highest <= LOW * peak,
    )


def _factor(scheduler: LambdaLR, step: int) -> float:
    return max(float(function(step)) for function in scheduler.lr_lambdas)


def _top(scheduler: LambdaLR, course: Course) -> tuple[int, float]:
    """Return the step of the largest factor more exactly than GRID has it, and this factor."""
    steps = range(course.warmup, int(1.15 * course.warmup) + 2, max(1, course.warmup // 1000))
    largest, negative = max((_factor(scheduler, step), -step) for step in steps)
    return -negative, largest


def _planned_updates(record: LoopRecord) -> int:
    """Return how many updates the training has; 0 if that is unknown.

    It is known if the loop has come to its end, and from the state of a Hugging Face Trainer.
    """
    if record.has_ended:
        return len(record.updates) + len(record.skipped)
    module = sys.modules.get("transformers.trainer_callback")
    kind = getattr(module, "TrainerState", None)
    states = [obj for obj in gc.get_objects() if type(obj) is kind] if kind is not None else []
    return max((int(state.max_steps or 0) for state in states), default=0)


def _updates_per_step(use: ScheduleUse, record: LoopRecord) -> int:
    """Return how many updates the loop makes for each step of the scheduler; all if it makes none."""
    if not use.updates:
        return len(record.updates)
    gaps = [later - earlier for earlier, later in itertools.pairwise((0, *use.updates))]
    return min(gaps)


def _updates_per_epoch(record: LoopRecord) -> int:
    """Return how many updates one pass over the training data has; 0 if unknown."""
    loaders = record.observed.loaders
    n_batches = max((use.n_batches for use in loaders if use.shuffles), default=0)
    n_batches = n_batches or (loaders[0].n_batches if loaders else 0)
    micro = max((len(update.losses) for update in record.updates), default=1)
    return n_batches // max(1, micro)


def _counts_epochs(use: ScheduleUse, record: LoopRecord) -> Finding | None:
    """A schedule is made for epochs, but the scheduler steps after every update."""
    n = _updates_per_epoch(record)
    updates = use.updates
    is_per_update = len(updates) >= MIN_PER_STEP and updates[-1] - updates[0] == len(updates) - 1
    if n < MIN_PER_STEP or not is_per_update:
        return None
    rule, left = _left_after(use.scheduler, n)
    if not rule or left > MAX_LEFT and not isinstance(use.scheduler, MultiStepLR):
        return None
    rates = _rates(record)
    if rates[-1] >= rates[0]:
        return None
    return _finding(
        use,
        title=f"{type(use.scheduler).__name__} is made for epochs, but it steps after every update.",
        evidence=f"{rule}, and an epoch has {n} updates; the rate fell from {rates[0]:.3g} to {rates[-1]:.3g} in "
        f"{len(rates)} updates",
        why=f"At the end of the first epoch only {left:.1g} of the rate is left.",
        fix="Call scheduler.step() once an epoch, or give the schedule in updates.",
    )


def _left_after(scheduler: Any, n: int) -> tuple[str, float]:
    """Return what a scheduler does, as text, and the fraction of the rate that `n` steps leave; "" for other kinds."""
    if isinstance(scheduler, MultiStepLR):
        milestones: Sequence[int] = sorted(scheduler.milestones.elements())
        passed = sum(milestone < n for milestone in milestones)
        if not milestones or passed < len(milestones):
            return "", 1.0
        return f"its last milestone is step {milestones[-1]}", float(scheduler.gamma**passed)
    if isinstance(scheduler, StepLR):
        rule = f"it multiplies the rate by {scheduler.gamma:g} every {scheduler.step_size} steps"
        return rule, float(scheduler.gamma ** (n // scheduler.step_size))
    if isinstance(scheduler, ExponentialLR):
        return f"it multiplies the rate by {scheduler.gamma:g} at each step", float(scheduler.gamma**n)
    return "", 1.0
