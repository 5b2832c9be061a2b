"""Do the rates of a loop turn negative, or reach zero or almost zero too early? Called by the check of the rates."""

from collections.abc import Callable, Iterator, Sequence

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loop.reading import line_of
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord

MIN_ZERO = 3
"""Updates at a rate of zero at the end, from which training seems to go on without learning."""
MIN_UPDATES = 10
"""Updates from which a rate of zero at the start, or a used-up schedule, is not an accident."""
USED_UP = 0.05
"""Of the highest rate: usual schedules spend less than a tenth of the training below it, at its end."""


def check_course(record: LoopRecord) -> Iterator[Finding]:
    """Yield what is wrong with the course of the rates."""
    updates = record.updates
    n_zero = next((number for number, update in enumerate(updates) if update.highest_lr), len(updates))
    if any(min(update.lrs, default=0.0) < 0 for update in updates):
        yield _crosses_zero(updates)
    elif n_zero >= MIN_UPDATES or n_zero == len(updates):
        yield _starts_at_zero(updates, n_zero)
    elif (number := _ends_at_zero(record)) is not None:
        yield _reaches_zero(record, number)
    elif (number := _used_up(record)) is not None:
        yield _too_fast(updates, number)


def _ends_at_zero(record: LoopRecord) -> int | None:
    """Return the update from which on all rates are zero; None if they are not, or if it is the end of a real loop."""
    number = _number_before_tail(record.updates, lambda rate: rate == 0)
    n_zero = len(record.updates) - number
    return number if n_zero >= MIN_ZERO and (record.is_rehearsal or n_zero > number) else None


def _used_up(record: LoopRecord) -> int | None:
    """Return the update from which on the rates of a real loop stay below USED_UP of the highest, or None.

    Only if that is in the first quarter of its updates and training continues: a schedule is planned for all of them.
    """
    updates = record.updates
    highest = max(update.highest_lr for update in updates)
    number = _number_before_tail(updates, lambda rate: rate < USED_UP * highest)
    is_scheduled = any(update.events_of("schedule") for update in updates)
    is_early = len(updates) >= MIN_UPDATES and 4 * number <= len(updates)
    return number if is_scheduled and is_early and not record.is_rehearsal else None


def _number_before_tail(updates: Sequence[UpdateRecord], is_low: Callable[[float], bool]) -> int:
    """Return how many updates there are before the last ones, whose rates are all low."""
    number = len(updates)
    while number and is_low(updates[number - 1].highest_lr):
        number -= 1
    return number


def _micro_batches(updates: Sequence[UpdateRecord]) -> int:
    """Return how many backward calls an update has, if all have the same number."""
    counts = {len(update.losses) for update in updates}
    return counts.pop() if len(counts) == 1 else 1


def _crosses_zero(updates: Sequence[UpdateRecord]) -> Finding:
    number = next(update.number for update in updates if min(update.lrs, default=0.0) < 0)
    return Finding(
        code="lr_schedule",
        title=f"The learning rate turns negative at update {number + 1}, so training undoes itself.",
        evidence=_course(updates, number + 1),
        why="With a negative rate every step increases the loss.",
        fix=_fix_of_schedule(updates),
        location=_schedule_line(updates[number]),
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
        evidence=_course(updates, len(updates))
        + (f"; the scheduler makes {per_update} steps per update" if per_update > 1 else ""),
        why="The schedule ends before the training does.",
        fix=_fix_of_schedule(updates)
        if n > 1 or per_update > 1
        else "Give the schedule the number of optimizer steps.",
        location=_schedule_line(updates[number]),
        kind="finding" if is_shown else "hint",
    )


def _too_fast(updates: Sequence[UpdateRecord], number: int) -> Finding:
    ratio = max(update.highest_lr for update in updates) / updates[-1].highest_lr
    return Finding(
        code="lr_schedule",
        title=f"The schedule is used up after {number} updates: the learning rate is {ratio:.0f} times lower from then "
        "on.",
        evidence=_course(updates, len(updates)),
        why="Almost all of the training runs at the final, tiny rate.",
        fix="If the schedule counts epochs, call scheduler.step() once per epoch; if it counts steps, give it the "
        "number of optimizer steps of the whole training.",
        location=next((line for update in updates if (line := line_of(update, "schedule"))), ""),
        explains=("lr_too_low",),
    )


def _course(updates: Sequence[UpdateRecord], n_shown: int) -> str:
    """Return the rates of the first, the middle and the last of `n_shown` updates as text."""
    chosen = sorted({0, n_shown // 2, n_shown - 1})
    course = ", ".join(f"{updates[i].highest_lr:.3g} at update {i + 1}" for i in chosen)
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
        location=_schedule_line(updates[0]),
        explains=("cannot_overfit", "lr_too_low", "weights_never_move"),
    )


def _schedule_line(update: UpdateRecord) -> str:
    """Return where the scheduler steps, or else the optimizer: the loop may set the rate itself."""
    return line_of(update, "schedule") or line_of(update, "step")
