"""Does the loss of the loop fall, and if not, does it fall at a lower learning rate?

Cost: none if it falls; else up to 64 updates at each of four rates, of at most 3 s each.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from tui_lab.core.doctor.checks.training.loss_values import is_lasting, not_finite, recorded_courses
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.loss_course import LossCourse, constant_loss, standard_error
from tui_lab.core.doctor.loop.reading import require_given_data, require_updates
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 20
MIN_PLATEAU = 100
"""Updates after which a classifier whose loss stays at that of a constant prediction is mentioned. Healthy language
models may stay there for longer: a masked one of 2 layers stays for 180 updates."""
MAX_NOISE = 0.1
"""Of the first losses: with more, nothing can be said of their fall."""
MIN_FALL = 0.02
"""Of the first losses."""
MIN_EQUAL = 10
"""Losses of different batches, after which it is not a coincidence that all are the same number."""
ROUNDING = 2e-7
"""Relative difference of equal losses: about two of the steps of float32."""
CONSTANT = 0.95
"""Of the loss of a constant prediction, above which a loss stays at it."""
MOVING_TARGETS = 0.25
"""Share of updates with a call of the model without gradients, from which the targets may come from the model itself,
as in Q-learning."""
RATES = (0.1, 0.01, 0.001)
"""Of the loop's own rate, that are tried."""
TRIAL_UPDATES = 64
TRIAL_SECONDS = 3.0
"""CPU time of the updates at one rate."""
MIN_TRIAL_UPDATES = 24
N_TIMED = 4
"""Updates whose time is measured."""
CLEARLY_SLOWER = 4.0
"""Times the longest update with which a trial fits into its time: more measurements would not change that."""
CLEARLY_LOWER = 0.8
"""Of the loss at the loop's own rate, what a lower rate must reach in as many updates on the same batches."""
N_BATCHES = 4
"""Of the loop, that a trial repeats. In 64 updates small models memorize 4 batches at a good rate, but not 16."""
SLIGHTLY_LOWER = 0.95
"""Of the same, what a rate must reach with which other batches have a lower loss than that of a constant prediction:
text of many ids is learned more slowly than a few classes."""
GENERALIZES = 0.97
"""Of the loss of other batches: targets that do not belong to their inputs are memorized at a lower rate,
too, but then the loss of other batches rises."""
TRAINED = "the model was trained before, so its loss need not fall soon"
UNBOUNDED = 10.0
"""Size of the last losses, in units of the first."""
FASTER = 2.0
"""How much more a loss without a bound falls in the second half than in the first."""


@dataclass(frozen=True)
class Trial:
    """Mean losses after n updates: loss of the batches that they repeated, other of as many others.

    lr: the highest rate of the updates.
    """

    lr: float
    n: int
    loss: float
    other: float


def check(target: Target) -> Iterator[Finding]:
    courses = recorded_courses(target)
    if broken := next(filter(is_lasting, courses), None):  # No loss may be NaN, whatever it is for.
        yield not_finite(broken)
        return
    if target.varies and (same := next(filter(_is_one_number, courses), None)):
        yield _one_number(same)
        return
    course = _judged_course(target, courses)
    if not all(map(math.isfinite, course.values)):
        return
    if not target.untrained:
        yield _of_trained_model(target, course)
        return
    if _is_unbounded(course):
        yield _unbounded(course)
        return
    record = target.loop
    constant = _constant_level(course, record)
    stays = _stays(course)
    if constant is None and not stays and not _is_above_start(course):
        return
    level = record.observed.constant_loss if constant is not None else None
    n_trial = _n_trial_updates(target)
    untried = _why_untried(target, n_trial)
    trials = [] if untried else _trials(target, level, n_trial)
    if trials and (better := _better(trials, target, level)):
        yield _rate_too_high(course, constant, trials, better)
    elif stays or (constant is not None and _is_plateau_unusual(target, course, trials)):
        finding = _not_falling(course, constant, trials, is_of_tokens=target.tokens is not None)
        untried_text = f"; no lower rates were tried: {untried}" if untried else ""
        yield replace(finding, evidence=finding.evidence + untried_text)
    elif constant is not None:
        raise _resting(course, constant)
    elif untried:
        raise NotJudged(f"the loss, {course}, stays above its first value, and no lower rates were tried: {untried}")


def _resting(course: LossCourse, constant: float) -> NotJudged:
    return NotJudged(
        f"the loss, {course} over {len(course.values)} updates, rests near the {constant:.4g} of a model that "
        "ignores its input; a healthy one may stay there for long; --updates N sets more"
    )


def _of_trained_model(target: Target, course: LossCourse) -> Finding:
    """Return a hint for a loss that rests at that of a constant prediction, which any trained model should pass.

    Raises NotApplicable for another loss, and NotJudged for too few updates.
    """
    constant = _constant_level(course, target.loop)
    if constant is None:
        raise NotApplicable(TRAINED)
    if not _is_plateau_unusual(target, course, ()):
        raise _resting(course, constant)
    return _not_falling(course, constant, (), is_of_tokens=False)


def _is_plateau_unusual(target: Target, course: LossCourse, trials: Sequence[Trial]) -> bool:
    """Return whether a loss that rests at that of a constant prediction is mentioned.

    A language model may rest there for long, but its rate is doubtful if a lower one memorizes some batches and
    its own does not even that.
    """
    if target.tokens is None:
        return len(course.values) >= MIN_PLATEAU
    return bool(trials) and _by_heart(trials) is not None


def _judged_course(target: Target, courses: Sequence[LossCourse]) -> LossCourse:
    """Return the losses of the loop. Raises NotApplicable if they need not fall, and NotJudged if they are too few."""
    record = target.loop
    require_updates(record.updates, MIN_UPDATES)
    if len(courses) != 1 or len(courses[0].values) < len(record.updates):
        raise NotApplicable("several losses are trained in turns, as in adversarial training")
    if any(len(update.optimizers) > 1 for update in record.updates):
        raise NotApplicable("several optimizers step")
    require_given_data(record)
    n_called = sum(bool(update.events_of("evaluation")) for update in record.updates)
    if n_called > MOVING_TARGETS * len(record.updates):
        raise NotApplicable("the model is called without gradients in the updates, so its targets may change with it")
    rates = [update.highest_lr for update in record.updates]
    if rates[-1] == max(rates) > rates[0]:
        raise (
            NotJudged("the learning rate still rises at the end of the recorded updates")
            if target.untrained
            else NotApplicable(TRAINED)
        )
    return courses[0]


def _is_one_number(course: LossCourse) -> bool:
    """Return whether all losses are equal, and are not the 0 of a loss with nothing left to learn."""
    first = course.values[0]
    if len(course.values) < MIN_EQUAL or first == 0:
        return False
    return all(abs(value - first) <= ROUNDING * abs(first) for value in course.values)


def _stays(course: LossCourse) -> bool:
    """Return whether the loss does not fall, although its noise is small enough to see that."""
    size = abs(course.first)
    is_clear = course.noise < MAX_NOISE * size
    return min(course.values) > 0 and is_clear and course.first - course.last < max(2 * course.noise, MIN_FALL * size)


def _is_above_start(course: LossCourse) -> bool:
    """Return whether the last losses are all above that of the untrained model, as if the steps are too large."""
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


def _why_untried(target: Target, n: int) -> str:
    """Return why no other rates can be tried in `n` updates each; empty if they can."""
    if n == 0:
        return "no optimizer of torch has a rate above 0"
    if n < MIN_TRIAL_UPDATES:
        limit = "were recorded" if n == len(target.loop.updates) else f"take {TRIAL_SECONDS:g} s of CPU time"
        return f"only {n} updates {limit}, and a trial needs {MIN_TRIAL_UPDATES}"
    return "too few batches differ" if target.varies and _repeats_soon(target) else ""


def _trials(target: Target, constant: float | None, n: int) -> list[Trial]:
    """Return trials of `n` updates at RATES of the loop's own rate; empty if the own rate learns, too.

    constant: the loss of a constant prediction, if the loop's loss has come to rest there.
    """
    start = _try(target, 1.0, 0)
    own_trial = _try(target, 1.0, n)
    if own_trial.loss < CLEARLY_LOWER * (start.loss if constant is None else constant):
        return []
    return [own_trial, *(_try(target, factor, n) for factor in RATES)]


def _better(trials: Sequence[Trial], target: Target, constant: float | None) -> Trial | None:
    """Return the best trial that learns what the own rate does not, also for other batches if they differ.

    constant: as for `_trials`. Only targets that belong to their inputs let other batches fall below it.
    """
    own_trial, *lower = trials
    fits_others = [t for t in lower if not target.varies or t.other < GENERALIZES * _or_infinite(own_trial.other)]
    learned = [trial for trial in fits_others if trial.loss < CLEARLY_LOWER * _or_infinite(own_trial.loss)]
    if not learned and constant is not None and _by_heart(trials) is not None:
        learned = [
            trial
            for trial in fits_others
            if trial.loss < SLIGHTLY_LOWER * _or_infinite(own_trial.loss) and trial.other < GENERALIZES * constant
        ]
    return min(learned, key=lambda trial: trial.loss) if learned else None


def _by_heart(trials: Sequence[Trial]) -> Trial | None:
    """Return the lower rate that learns the repeated batches best, if the loop's own rate does not learn them."""
    lower = min(trials[1:], key=lambda trial: trial.loss, default=None)
    return lower if lower is not None and lower.loss < CLEARLY_LOWER * _or_infinite(trials[0].loss) else None


def _table(trials: Sequence[Trial]) -> tuple[str, ...]:
    return tuple(f"lr {t.lr:<8g} loss {t.loss:.3f}, of other batches {t.other:.3f}" for t in trials)


def _rate_too_high(course: LossCourse, constant: float | None, trials: Sequence[Trial], better: Trial) -> Finding:
    own_trial = trials[0]
    return Finding(
        code="lr_too_high",
        title=f"The learning rate {own_trial.lr:g} is too high: the loss "
        + ("does not fall with it" if constant is None else "stays at that of a model that ignores its input")
        + f"; with {better.lr:g}, it falls.",
        evidence=f"{_course(course, constant)}; {own_trial.n} updates on {N_BATCHES} of its batches reach "
        f"{better.loss:.4g} with {better.lr:g}, and {own_trial.loss:.4g} with {own_trial.lr:g}; "
        f"of other batches {better.other:.4g} and {own_trial.other:.4g}",
        why="Steps this large overshoot every minimum.",
        fix=f"Try {better.lr:g}, then halve or double it.",
        drawing=_table(trials),
        proposal={"optim.lr": better.lr},
        location=course.line,
    )


def _or_infinite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf


def _repeats_soon(target: Target) -> bool:
    """Return whether there are too few batches to learn some and judge by others."""
    first, *others = [next(tensors_of(target.batch(step)), None) for step in (0, *range(N_BATCHES, 2 * N_BATCHES))]
    return any(
        first is None or other is None or first.shape == other.shape and torch.equal(first, other) for other in others
    )


def _n_trial_updates(target: Target) -> int:
    """Return how many updates a trial can make in its time; 0 if there is no rate to try.

    The fastest update counts: the first one creates the optimizer's state, and on a loaded machine any may be slow.
    """
    if not target.optimizers or max(update.highest_lr for update in target.loop.updates) <= 0:
        return 0
    trial = target.fresh()
    seconds = TRIAL_SECONDS
    for step in range(N_TIMED):
        began = time.process_time()
        trial.apply_update(trial.batch(step), trial.seed + step)
        seconds = min(seconds, time.process_time() - began)
        if step and seconds > TRIAL_SECONDS / MIN_TRIAL_UPDATES * CLEARLY_SLOWER:
            break
    return max(1, min(TRIAL_UPDATES, len(target.loop.updates), int(TRIAL_SECONDS / max(seconds, 1e-6))))


def _try(target: Target, factor: float, n: int) -> Trial:
    """Make `n` updates on N_BATCHES batches at the loop's rates times `factor`, without dropout."""
    trial = target.fresh()
    rates = [factor * update.highest_lr for update in target.loop.updates]
    with without_dropout(trial.model):
        for step in range(n):
            trial.set_lr(rates[step])
            trial.apply_update(trial.batch(step % N_BATCHES), trial.seed + step)
    with trial.evaluating(), torch.no_grad():
        losses = [float(trial.loss(trial.batch(step)).detach()) for step in range(2 * N_BATCHES)]
    return Trial(max(rates), n, fmean(losses[:N_BATCHES]), fmean(losses[N_BATCHES:]))


def _course(course: LossCourse, constant: float | None) -> str:
    text = f"loss {course} over {len(course.values)} updates (mean of the first tenth → of the last)"
    if constant is not None:
        text += f"; a model that ignores its input reaches {constant:.4g}"
    return text


def _not_falling(course: LossCourse, constant: float | None, trials: Sequence[Trial], *, is_of_tokens: bool) -> Finding:
    at_constant = constant is not None
    lower = _by_heart(trials) if trials else None
    return Finding(
        code="loss_not_falling",
        kind="hint",
        title="The loss stays at that of a model that ignores its input." if at_constant else "The loss does not fall.",
        evidence=_course(course, constant)
        + (
            f"; {lower.n} updates at {lower.lr:g} memorize {N_BATCHES} batches, those at {trials[0].lr:g} do not"
            if lower is not None
            else ""
        ),
        drawing=_table(trials),
        why="The model gives the same prediction for every input: it has found nothing that predicts the targets."
        if at_constant
        else "So far, the updates have taught the model nothing.",
        fix="Check that inputs and targets are of the same rows, "
        + ("" if is_of_tokens else "that the inputs have a mean of about 0 and a deviation of about 1, ")
        + "and try other learning rates"
        + (f", such as {lower.lr:g}." if lower is not None else "."),
        location=course.line,
    )


def _one_number(course: LossCourse) -> Finding:
    return Finding(
        code="loss_not_falling",
        kind="hint",
        title=f"The loss is {course.first:.6g} in all of {len(course.values)} updates, whatever the batch.",
        evidence=f"{len(course.values)} losses of different batches are equal in float32",
        why="It depends neither on the batch nor on the weights: two things that it compares are always the same, or "
        "its input does not reach it.",
        fix="Look for a difference of two outputs of one model, such as a policy that is its own reference, for an "
        "output that is constant, and for a bound that the loss has reached.",
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
