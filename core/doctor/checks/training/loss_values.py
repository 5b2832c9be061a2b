"""Is the loss of the loop a number? Cost: none beyond the record of the loop."""

import math
from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.findings import Finding, FindingCode, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.loss_course import LossCourse, loss_courses
from tui_lab.core.doctor.loop.reading import MIN_LAST
from tui_lab.core.doctor.loop.record import LoopRecord, SkippedStep
from tui_lab.core.doctor.program.target import Target

FIX_OF_LOSS = (
    "Look between the model's output and the loss for the logarithm or square root of a number that is not positive, a "
    "division by zero, a mean over no element, or a score of -inf for a class that is a target."
)
EXPLAINS: tuple[FindingCode, ...] = ("not_finite", "gradient_not_finite", "initial_loss", "cannot_overfit")


def check(target: Target) -> Iterator[Finding]:
    """Judge losses that are not finite from the first update on; later ones may come from the learning rate."""
    courses = recorded_courses(target)
    if skipped := _skipped_for_good(target.loop):
        yield _skips_losses(skipped)
        return
    for course in courses:
        if not math.isfinite(course.values[0]) and is_lasting(course):
            yield not_finite(course)
            return
    if broken := next(filter(is_lasting, courses), None):
        number = next(n for n, value in zip(broken.numbers, broken.values, strict=True) if not math.isfinite(value))
        raise NotJudged(f"the loss is not finite from update {number + 1} on; other checks look for the cause")


def _skipped_for_good(record: LoopRecord) -> Sequence[SkippedStep]:
    """Return the steps that a GradScaler skipped after the last update, from the first loss on that is not finite.

    Empty if the loss may become finite again.
    """
    steps = record.skipped_last
    broken = [not all(map(math.isfinite, step.losses)) for step in steps]
    return steps[broken.index(True) :] if len(steps) >= MIN_LAST and all(broken[-MIN_LAST:]) else ()


def recorded_courses(target: Target) -> list[LossCourse]:
    """Return the losses of the user's own loop. Raises NotApplicable if only the doctor's updates were recorded."""
    if target.record is None:
        raise NotApplicable("only scripts have a recorded course of losses")
    return loss_courses(target.record)


def is_lasting(course: LossCourse) -> bool:
    """Return whether losses are often not finite: half of them or more, or the last ones."""
    finite = [math.isfinite(value) for value in course.values]
    return not any(finite[-3:]) or 2 * sum(finite) <= len(finite)


def _skips_losses(steps: Sequence[SkippedStep]) -> Finding:
    first = steps[0]
    value = next(loss for loss in first.losses if not math.isfinite(loss))
    when = f"after {first.n_updates} updates" if first.n_updates else "from the first step on"
    return Finding(
        code="loss_not_finite",
        title=f"The loss is {value:g} {when}, so GradScaler skips every further step.",
        evidence=f"{len(steps)} steps in a row were skipped, down to a loss scale of {steps[-1].loss_scale:g}",
        why="A skipped step changes no weight, and no smaller loss scale makes this loss finite: the training stands "
        "still.",
        fix=FIX_OF_LOSS,
        location=first.line,
        explains=EXPLAINS,
    )


def not_finite(course: LossCourse) -> Finding:
    """Return the finding on a loss that is not finite from some update on."""
    is_infinite = [not math.isfinite(value) for value in course.values]
    i = is_infinite.index(True)
    value = course.values[i]
    n = sum(is_infinite)
    since = "in every update" if n == len(is_infinite) else f"from update {course.numbers[i] + 1} on"
    is_nan = math.isnan(value)
    return Finding(
        code="loss_not_finite",
        title=f"The loss is {value:g} {since}.",
        evidence=f"{n} of {len(is_infinite)} losses are not finite; the first is {value:g}, at update "
        f"{course.numbers[i] + 1}" + (f", after {course.values[i - 1]:.4g}" if i else ""),
        why="NaN spreads: after one step every weight is NaN."
        if is_nan
        else "An infinite loss has no useful gradient: something has a probability of exactly zero, or overflows.",
        fix=FIX_OF_LOSS
        if i == 0
        else "Use a lower learning rate, clip the gradients, or find the operation: torch.autograd.detect_anomaly() "
        "names it.",
        location=course.line,
        explains=EXPLAINS,
    )
