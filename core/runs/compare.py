"""Compare groups of runs at equal steps, tokens and training time."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tui_lab.core import events as ev
from tui_lab.core.runs.verdict import Verdict, judge

Axis = Literal["steps", "tokens", "seconds"]
AXES: tuple[Axis, ...] = ("steps", "tokens", "seconds")
LEAST_SHARED = 0.5
"""Of the largest common amount: runs are not compared at an earlier step only because all were evaluated there."""
CourseMetric = Literal["val_loss", "train_loss"]


@dataclass(frozen=True)
class MeasuredValue:
    """A value, and the steps, tokens and seconds of training until then. tokens: samples, for some scripts."""

    steps: int
    tokens: int
    seconds: float
    value: float


@dataclass
class Course:
    """What a comparison needs of a run: the events of its steps, its evaluations, and all other events.

    has_interval_means: whether each loss is the mean of the steps since the one before, as Trainers log it.
    """

    steps: list[ev.StepDone] = field(default_factory=list)
    evaluations: list[MeasuredValue] = field(default_factory=list)
    smoothed: list[MeasuredValue] = field(default_factory=list)
    """The recorded weighted mean of the train loss."""
    others: list[ev.Event] = field(default_factory=list)
    has_interval_means: bool = False

    def measured(self, metric: CourseMetric) -> list[MeasuredValue]:
        return self.evaluations if metric == "val_loss" else self.smoothed


def course_of(events: Iterable[ev.Event], *, has_interval_means: bool = False) -> Course:
    """Return the course of a run with these events."""
    course = Course(has_interval_means=has_interval_means)
    tokens = 0
    seconds = 0.0
    for event in events:
        match event:
            case ev.StepDone():
                tokens = event.tokens
                seconds += event.seconds
                course.steps.append(event)
                course.smoothed.append(MeasuredValue(event.step, tokens, seconds, event.loss_ema))
            case ev.Evaluated():
                course.evaluations.append(MeasuredValue(event.step, tokens, seconds, event.val_loss))
            case ev.Logged():
                pass
            case _:
                course.others.append(event)
    return course


@dataclass(frozen=True)
class AtEqual:
    """The verdict at an equal number of steps or tokens, or of seconds of training.

    amount: the largest that every run reached. baseline, group: the value of each run, the last one until then.
    """

    axis: Axis
    amount: float
    verdict: Verdict
    baseline: tuple[MeasuredValue, ...]
    group: tuple[MeasuredValue, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "axis": self.axis,
            "amount": self.amount,
            "verdict": self.verdict.to_json(),
            "baseline": [vars(value) for value in self.baseline],
            "group": [vars(value) for value in self.group],
        }


def common_metric(courses: Iterable[Course]) -> CourseMetric | None:
    """Return the validation loss if every run has one, else the train loss; None where a run has neither."""
    courses = list(courses)
    if all(course.evaluations for course in courses):
        return "val_loss"
    return "train_loss" if all(course.steps for course in courses) else None


def at_equal(axis: Axis, baseline: Sequence[Course], group: Sequence[Course], metric: CourseMetric) -> AtEqual | None:
    """Judge a group of runs at an equal amount of steps, tokens or time.

    Runs that were evaluated at different steps are compared where all were evaluated, if that is late enough; otherwise
    each by its last evaluation until the largest amount that all reached. None where a run has none by then, or where
    the amount is not known.
    """
    values = [course.measured(metric) for course in (*baseline, *group)]
    if not all(values):
        return None
    amount: float = min(_amount(axis, measured[-1]) for measured in values)
    if amount <= 0 and axis != "steps":  # Imported logs without tokens or times.
        return None
    shared = set.intersection(*({_amount(axis, value) for value in measured} for measured in values))
    if shared and max(shared) >= LEAST_SHARED * amount:
        amount = max(shared)
    latest = [_latest(axis, measured, amount) for measured in values]
    at = tuple(value for value in latest if value is not None)
    if len(at) < len(values):
        return None
    n = len(baseline)
    verdict = judge([value.value for value in at[:n]], [value.value for value in at[n:]])
    return AtEqual(axis, amount, verdict, at[:n], at[n:])


def _amount(axis: Axis, measured: MeasuredValue) -> float:
    match axis:
        case "steps":
            return measured.steps
        case "tokens":
            return measured.tokens
        case "seconds":
            return measured.seconds


def _latest(axis: Axis, measured: Sequence[MeasuredValue], amount: float) -> MeasuredValue | None:
    """Return the last value that was measured until `amount`."""
    until = [
        value for value in measured if _amount(axis, value) <= amount or math.isclose(_amount(axis, value), amount)
    ]
    return until[-1] if until else None
