"""Where the train losses of two runs part, and what changed there."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Literal

from tui_lab.core import events as ev
from tui_lab.core.runs.compare import Course
from tui_lab.util.ranges import ranges_text

SMOOTHING = 0.9
"""Weight of the past in the mean of the difference, as in the recorded mean of the train loss."""
NOISE_STEPS = 100
"""Steps before a step from which its noise is estimated."""
FEWEST_NOISE_STEPS = 20
THRESHOLD = 4.0
"""Times the noise. Losses are not independent from step to step, so that 3 would often be too few."""
STAYS = 50
"""Steps for which the difference must stay beyond the noise; fewer at the end of the curves, but at least 10."""
FEWEST_STAYS = 10
CLEAR = 8.0
"""Times the noise from which FEWEST_STAYS are enough: curves that part while the loss falls may meet again."""
SAME_LR = 1e-6
"""Relative difference up to which two learning rates are the same."""
MEAN_ROUNDING = 1e-4
"""Nats. The Trainer of transformers 4 logs four decimals; that of version 5 a mean in 32 bits."""
STEPS_TO_SHOW = 2
"""A setting that holds from step s on first shows in the loss of step s + 1 or, if it changes the update, s + 2."""

Pair = tuple[ev.StepDone, ev.StepDone]
"""The same step of two runs."""
CauseKind = Literal["change", "warning", "resumed", "lr", "tokens"]


@dataclass(frozen=True)
class Cause:
    """What happened in one of two runs shortly before they part. run: 0 or 1; text: as "optim.lr 0.01 → 0.1"."""

    kind: CauseKind
    run: int
    step: int
    text: str


@dataclass(frozen=True)
class Parting:
    """Where the train losses of two runs part.

    n_common: steps that both have. first_difference: the first step whose losses are not the same number; None if all
    are. beyond_noise: the first step from which the smoothed difference stays beyond the noise; None if there is none.
    noise: of the smoothed difference at that step; difference: the second run's loss minus the first's there. until:
    the last step of that stretch; None if it lasts to the end. last_identical: the last common step before
    first_difference; None if there is none.
    """

    n_common: int
    first_difference: int | None
    beyond_noise: int | None
    difference: float | None
    noise: float | None
    causes: tuple[Cause, ...] = ()
    until: int | None = None
    last_identical: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def find_parting(a: Course, b: Course) -> Parting:
    """Find where two courses part.

    The difference of the losses is smoothed exponentially. Its noise follows from the changes of each loss from step to
    step, which estimate the variance whatever the trend (von Neumann, "Distribution of the ratio of the mean square
    successive difference to the variance", Annals of Mathematical Statistics 12, 1941); smoothing with weight w divides
    the variance by (1 + w) / (1 - w), the limit of an EWMA control chart (Roberts, Technometrics 1, 1959).
    """
    is_rounded = a.has_interval_means or b.has_interval_means
    pairs = _pairs(a, b)
    first = next((i for i, (x, y) in enumerate(pairs) if not _same(x.loss, y.loss, is_rounded=is_rounded)), None)
    if first is None:
        return Parting(len(pairs), None, None, None, None)
    first_step = pairs[first][0].step
    last_identical = pairs[first - 1][0].step if first else None
    differences = _smoothed_differences(pairs)
    noise = _noise(pairs)
    stretch = _first_to_stay(first, differences, noise)
    if stretch is None:
        causes = _causes((a, b), pairs, first_step, first_step)
        return Parting(len(pairs), first_step, None, None, None, causes, last_identical=last_identical)
    beyond = stretch[0]
    step = pairs[beyond][0].step
    causes = _causes((a, b), pairs, first_step, step)
    until = None if stretch[-1] == len(pairs) - 1 else pairs[stretch[-1]][0].step
    return Parting(len(pairs), first_step, step, differences[beyond], noise[beyond], causes, until, last_identical)


def _pairs(a: Course, b: Course) -> list[Pair]:
    """Return the steps that both have; of two runs of which one logs means, means of the same steps of both."""
    of_a, of_b = ({step.step: step for step in course.steps} for course in (a, b))
    if a.has_interval_means and not b.has_interval_means:
        of_b = _interval_means(of_b, [step.step for step in a.steps])
    elif b.has_interval_means and not a.has_interval_means:
        of_a = _interval_means(of_a, [step.step for step in b.steps])
    return [(step, of_b[number]) for number, step in of_a.items() if number in of_b]


def _interval_means(steps: Mapping[int, ev.StepDone], ends: Sequence[int]) -> dict[int, ev.StepDone]:
    """Return the steps at `ends`, each with the mean loss since the end before; those of which all steps are known."""
    means = {}
    for before, end in pairwise([0, *ends]):
        losses = [steps[number].loss for number in range(before + 1, end + 1) if number in steps]
        if losses and len(losses) == end - before:
            means[end] = replace(steps[end], loss=sum(losses) / len(losses))
    return means


def _same(x: float, y: float, *, is_rounded: bool) -> bool:
    """Return whether two losses are the same number. is_rounded: one is a mean that a Trainer has rounded."""
    return x == y or (math.isnan(x) and math.isnan(y)) or (is_rounded and abs(x - y) <= MEAN_ROUNDING)


def _smoothed_differences(pairs: Sequence[Pair]) -> list[float]:
    """Return the exponentially weighted mean of the second loss minus the first."""
    differences = (y.loss - x.loss for x, y in pairs)
    return list(accumulate(differences, lambda mean, value: SMOOTHING * mean + (1 - SMOOTHING) * value))


def _noise(pairs: Sequence[Pair]) -> list[float]:
    """Return the standard deviation of the smoothed difference at each step, from the steps before it.

    Infinite where there are too few.
    """
    changes = [
        ((x1.loss - x0.loss) ** 2 + (y1.loss - y0.loss) ** 2) / 2
        for (x0, y0), (x1, y1) in zip(pairs, pairs[1:], strict=False)
    ]
    sums = list(accumulate(changes, initial=0.0))
    noise = []
    for i in range(len(pairs)):
        n = min(NOISE_STEPS, max(0, i - 1))
        if n < FEWEST_NOISE_STEPS:
            noise.append(math.inf)
            continue
        variance = max(0.0, sums[i - 1] - sums[i - 1 - n]) / n  # A difference of sums can be slightly negative.
        noise.append(math.sqrt(variance * (1 - SMOOTHING) / (1 + SMOOTHING)))
    return noise


def _first_to_stay(first: int, differences: Sequence[float], noise: Sequence[float]) -> range | None:
    """Return the first stretch of indexes from `first` on whose differences stay beyond the noise on the same side.

    It has STAYS of them, or FEWEST_STAYS in a row that are clear.
    """
    n = len(differences)
    n_stays = _n_stays(differences, noise, THRESHOLD)
    n_clear = _n_stays(differences, noise, CLEAR)
    start = first
    while start < n:
        end = start + n_stays[start]
        is_clear = any(n_clear[i] >= FEWEST_STAYS for i in range(start, end))
        if n_stays[start] >= max(FEWEST_STAYS, min(STAYS, n - start)) or is_clear:
            return range(start, end)
        start = max(end, start + 1)
    return None


def _n_stays(differences: Sequence[float], noise: Sequence[float], threshold: float) -> list[int]:
    """Return of each index how many from it on are beyond the noise on one side."""
    n_stays = [0] * (len(differences) + 1)
    for i in reversed(range(len(differences))):
        if abs(differences[i]) > threshold * noise[i]:
            crosses = i + 1 < len(differences) and differences[i] * differences[i + 1] < 0
            n_stays[i] = 1 if crosses else n_stays[i + 1] + 1
    return n_stays[:-1]


def _causes(courses: tuple[Course, Course], pairs: Sequence[Pair], first: int, beyond: int) -> tuple[Cause, ...]:
    """Return what happened in only one of two runs shortly before the step at which they first differ or part.

    If that is nothing, return the changes of settings before it: one of the data shows when the rows are drawn.
    """
    spans = (range(max(1, first - STEPS_TO_SHOW), first + 1), range(max(1, beyond - STAYS), beyond + 1))
    all_causes = sorted(_all_causes(courses, pairs), key=lambda cause: cause.step)
    near = [cause for cause in all_causes if any(cause.step in span for span in spans)]
    return tuple(near or [cause for cause in all_causes if cause.kind == "change" and cause.step < first])


def _is_another(lr: float, other: float) -> bool:
    """Return whether two learning rates differ by more than their rounding.

    Logs of other programs have numbers of 32 bits.
    """
    return not math.isclose(lr, other, rel_tol=SAME_LR)


def _all_causes(courses: tuple[Course, Course], pairs: Sequence[Pair]) -> Iterator[Cause]:
    """Yield what happened in only one of two runs, and the first step with another learning rate or batch size."""
    events = [{(event.step, _text(event)): event for event in course.others} for course in courses]
    for run, other in ((0, 1), (1, 0)):
        for place, event in events[run].items():
            kind = _KINDS.get(event.kind)
            if kind is not None and place not in events[other]:
                yield Cause(kind, run, event.step, _text(event))
    # An imported run may not know its learning rate.
    lr = next(((x, y) for x, y in pairs if _is_another(x.lr, y.lr) and not math.isnan(x.lr + y.lr)), None)
    if lr is not None:
        yield Cause("lr", 1, lr[0].step, f"{lr[0].lr:g} and {lr[1].lr:g}")
    tokens = next(((x, y) for x, y in pairs if x.tokens != y.tokens and x.tokens and y.tokens), None)
    if tokens is not None:
        yield Cause("tokens", 1, tokens[0].step, f"{tokens[0].tokens:,} and {tokens[1].tokens:,}")


_KINDS: dict[str, CauseKind] = {"changed": "change", "warned": "warning", "started": "resumed"}


def _text(event: ev.Event) -> str:
    match event:
        case ev.Changed():
            return f"{event.key} {_short(event.old)} → {_short(event.new)}"
        case ev.Warned():
            return event.message
        case ev.Started():
            return "resumed from a checkpoint"
        case _:
            return ""


def _short(value: Any) -> Any:
    """Return a value of a setting, a long list of ids as ranges."""
    ranges = ranges_text(value) if isinstance(value, list | tuple) else []
    return f"[{', '.join(ranges)}]" if ranges else value
