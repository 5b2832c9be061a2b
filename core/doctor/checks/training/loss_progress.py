"""Does the loss of the loop fall, and if not, does it fall at a lower learning rate?

Cost: none if it falls; else up to 64 updates at each of four rates.
"""

import math
import time
from collections.abc import Iterator, Sequence
from statistics import fmean

import torch

from tui_lab.core.doctor.checks.training.loss_values import is_lasting, not_finite, recorded_courses
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.loss_course import LossCourse, constant_loss, standard_error
from tui_lab.core.doctor.loop.reading import require_updates
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 20
MIN_PLATEAU = 100
"""Updates after which a classifier whose loss stays at that of a constant prediction is mentioned. Healthy language
models may stay there for longer: a masked one of 2 layers stays for 180 updates."""
MAX_NOISE = 0.1
"""Of the first losses: with more, nothing can be said of their fall."""
MIN_FALL = 0.02
"""Of the first losses."""
CONSTANT = 0.95
"""Of the loss of a constant prediction, above which a loss stays at it."""
MOVING_TARGETS = 0.25
"""Share of updates with a call of the model without gradients, from which the targets may come from the model itself,
as in Q-learning."""
RATES = (1.0, 0.1, 0.01, 0.001)
"""Of the loop's own rate, that are tried."""
TRIAL_UPDATES = 64
TRIAL_SECONDS = 3.0
"""CPU time of the updates at one rate."""
MIN_TRIAL_UPDATES = 24
CLEARLY_LOWER = 0.8
"""Of the loss at the loop's own rate, what a lower rate must reach in as many updates on the same batches."""
N_BATCHES = 4
"""Of the loop, that a trial repeats. In 64 updates small models learn 4 batches by heart at a good rate, but not 16."""
UNBOUNDED = 10.0
"""Size of the last losses, in units of the first."""
FASTER = 2.0
"""How much more a loss without a bound falls in the second half than in the first."""


def check(target: Target) -> Iterator[Finding]:
    course = _judged_course(target)
    if not all(map(math.isfinite, course.values)):
        if is_lasting(course):
            yield not_finite(course)
        return
    if _is_unbounded(course):
        yield _unbounded(course)
        return
    record = target.loop
    constant = _constant_level(course, record)
    stays = _stays(course)
    if constant is None and not stays and not _is_above_start(course):
        return
    if (finding := _rate_too_high(target, course, constant)) is not None:
        yield finding
    elif stays or (constant is not None and target.tokens is None and len(course.values) >= MIN_PLATEAU):
        yield _not_falling(course, constant)


def _judged_course(target: Target) -> LossCourse:
    """Return the losses of the loop. Raises NotApplicable if they need not fall, and NotJudged if they are too few."""
    courses = recorded_courses(target)
    record = target.loop
    require_updates(record.updates, MIN_UPDATES)
    if len(courses) != 1 or len(courses[0].values) < len(record.updates):
        raise NotApplicable("several losses are trained in turns, as in adversarial training")
    if any(len(update.optimizers) > 1 for update in record.updates):
        raise NotApplicable("several optimizers step")
    n_called = sum(bool(update.events_of("evaluation")) for update in record.updates)
    if n_called > MOVING_TARGETS * len(record.updates):
        raise NotApplicable("the model is called without gradients in the updates, so its targets may change with it")
    if not target.untrained:
        raise NotApplicable("the model was trained before, so its loss need not fall soon")
    rates = [update.highest_lr for update in record.updates]
    if rates[-1] == max(rates) > rates[0]:
        raise NotJudged("the learning rate still rises at the end of the recorded updates")
    return courses[0]


def _stays(course: LossCourse) -> bool:
    """Whether the loss does not fall, although its noise is small enough to see that."""
    size = abs(course.first)
    is_clear = course.noise < MAX_NOISE * size
    return min(course.values) > 0 and is_clear and course.first - course.last < max(2 * course.noise, MIN_FALL * size)


def _is_above_start(course: LossCourse) -> bool:
    """Whether the last losses are all above that of the untrained model, as those of steps that are too large."""
    return 0 < course.values[0] < min(course.values[-max(2, len(course.values) // 10) :])


def _constant_level(course: LossCourse, record: LoopRecord) -> float | None:
    """Return the loss of a constant prediction if the loss of the loop has come to rest there, or above; else None."""
    constant = constant_loss(record)
    if constant is None:
        return None
    n = len(course.values)
    third, last = course.values[n // 2 : 3 * n // 4], course.values[3 * n // 4 :]
    rests = fmean(third) - fmean(last) < max(2 * standard_error(third, last), MIN_FALL * fmean(third))
    return constant if rests and fmean(last) > CONSTANT * constant else None


def _is_unbounded(course: LossCourse) -> bool:
    first, last = course.first, course.last
    middle = course.values[len(course.values) // 2]
    return last < -UNBOUNDED * abs(first) and middle - last > FASTER * (first - middle)


def _rate_too_high(target: Target, course: LossCourse, constant: float | None) -> Finding | None:
    """Return a finding if the same updates on batches of the loop reach much less at a lower rate."""
    rate = max(update.highest_lr for update in target.loop.updates)
    if rate <= 0:
        return None
    n = _n_trial_updates(target)
    if n < MIN_TRIAL_UPDATES:
        return None
    losses = [_loss_after(target, factor * rate, n) for factor in RATES]
    own = losses[0]
    finite = [loss for loss in losses[1:] if math.isfinite(loss)]
    if not finite:
        return None
    best = min(finite)
    if own < CLEARLY_LOWER * (course.last if constant is None else constant) or not (
        best < CLEARLY_LOWER * own or not math.isfinite(own)
    ):
        return None
    lr = rate * RATES[losses.index(best)]
    table = tuple(f"lr {f * rate:<8g} loss {loss:.3f}" for f, loss in zip(RATES, losses, strict=True))
    return Finding(
        code="lr_too_high",
        title=f"The learning rate {rate:g} is too high: the loss does not fall with it, and does with {lr:g}.",
        evidence=f"{_course(course, constant)}; {n} updates on {N_BATCHES} of its batches reach {best:.4g} "
        f"with {lr:g}, and {own:.4g} with {rate:g}",
        why="Steps this large overshoot every minimum.",
        fix=f"Try {lr:g}, then halve or double it.",
        drawing=table,
        proposal={"optim.lr": lr},
        location=course.line,
    )


def _n_trial_updates(target: Target) -> int:
    """Return how many updates a trial can make in its time."""
    trial = target.fresh()
    began = time.process_time()
    for step in range(2):
        trial.apply_update(trial.batch(step), trial.seed + step)
    seconds = (time.process_time() - began) / 2
    return min(TRIAL_UPDATES, len(target.loop.updates), int(TRIAL_SECONDS / max(seconds, 1e-6)))


def _loss_after(target: Target, lr: float, n: int) -> float:
    """Return the mean loss of N_BATCHES batches after `n` updates at a rate, without dropout."""
    trial = target.fresh()
    trial.set_lr(lr)
    with without_dropout(trial.model):
        for step in range(n):
            trial.apply_update(trial.batch(step % N_BATCHES), trial.seed + step)
    with trial.evaluating(), torch.no_grad():
        return fmean(float(trial.loss(trial.batch(step)).detach()) for step in range(N_BATCHES))


def _course(course: LossCourse, constant: float | None) -> str:
    text = f"loss {course} over {len(course.values)} updates (mean of the first tenth → of the last)"
    if constant is not None:
        text += f"; a model that ignores its input reaches {constant:.4g}"
    return text


def _not_falling(course: LossCourse, constant: float | None) -> Finding:
    at_constant = constant is not None
    return Finding(
        code="loss_not_falling",
        kind="hint",
        title="The loss stays at that of a model that ignores its input." if at_constant else "The loss does not fall.",
        evidence=_course(course, constant),
        why="The model gives the same prediction for every input: it has found nothing in them that tells the targets."
        if at_constant
        else "So far, the updates have taught the model nothing.",
        fix="Check that inputs and targets are of the same rows, that the inputs have a mean of about 0 and a "
        "deviation of about 1, and try other learning rates.",
        location=course.line,
    )


def _unbounded(course: LossCourse) -> Finding:
    values: Sequence[float] = course.values
    return Finding(
        code="loss_unbounded",
        kind="hint",
        title="The loss falls below zero, faster and faster.",
        evidence=f"loss {values[0]:.4g} → {values[len(values) // 2]:.4g} → {values[-1]:.4g} over {len(values)} updates",
        why="Most losses have a lowest value, often zero. Without one, the largest weights win, not the best.",
        fix="Look for a term with the wrong sign, such as the KL divergence of a VAE, and for one that nothing bounds.",
        location=course.line,
    )
