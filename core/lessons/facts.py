"""Measure runs for a lesson: whether a stage is complete, an answer is right, and a claim of the text holds."""

import bisect
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tui_lab.core import events as ev
from tui_lab.core.lessons.schema import LN_VOCAB_SIZE, Bound, Fact, Measure, Metric, Question, Step, Until

WINDOW = 5
"""Steps of which `loss` is the mean."""


@dataclass(frozen=True)
class Measurements:
    """What is measured of a run so far. steps and losses: of each optimizer step, whose first has number 1.

    evaluations: the step, the validation loss, and the exact match or None. n_vocab: 0 where it is not known.
    """

    steps: Sequence[float]
    losses: Sequence[float]
    evaluations: Sequence[tuple[int, float, float | None]] = ()
    n_vocab: int = 0
    ended: bool = False

    @property
    def ln_vocab_size(self) -> float | None:
        """The loss of a uniform guess, in nats."""
        return math.log(self.n_vocab) if self.n_vocab > 1 else None

    def value(self, metric: Metric, step: Step = "last") -> float | None:
        """Return a metric at a step; None where the run has not come so far. See `schema.Measure`."""
        if metric == "loss":
            return self._loss(step)
        values = [
            (at, val_loss if metric == "val_loss" else exact_match) for at, val_loss, exact_match in self.evaluations
        ]
        measured = [(at, value) for at, value in values if value is not None]
        if not measured:
            return None
        if step == "last":
            return measured[-1][1]
        if step == "lowest":
            return min(value for _, value in measured)
        # The evaluation at this step or the last one before it, once the run has come to the step.
        if not self._has_come_to(step):
            return None
        return next((value for at, value in reversed(measured) if at <= step), None)

    def last_of_mean(self, measure: Measure) -> float | None:
        """Return the last of the losses whose mean `value` returns; None where it returns no mean, or nothing yet."""
        if measure.metric != "loss" or measure.step in (0, "lowest"):
            return None
        if not isinstance(measure.step, int):
            return self.losses[-1] if self.losses else None
        end = bisect.bisect_right(self.steps, measure.step)
        return self.losses[end - 1] if end and self._has_come_to(measure.step) else None

    def bound(self, bound: Bound) -> float | None:
        """Return the number that `bound` stands for; None where the vocabulary size is not known yet."""
        return self.ln_vocab_size if bound == LN_VOCAB_SIZE else float(bound)

    def _loss(self, step: Step) -> float | None:
        if not self.losses:
            return None
        if step == 0:
            # The first step's loss is that of the initial weights.
            return self.losses[0] if self.steps[0] <= 1 else None
        if step == "lowest":
            n = min(WINDOW, len(self.losses))
            return min(
                (_mean(self.losses[i : i + n]) for i in range(len(self.losses) - n + 1)),
                key=lambda value: math.inf if math.isnan(value) else value,
            )
        if step == "last":
            return _mean(self.losses[-WINDOW:])
        if not self._has_come_to(step):
            return None
        end = bisect.bisect_right(self.steps, step)
        return _mean(self.losses[max(0, end - WINDOW) : end]) if end else None

    def _has_come_to(self, step: float) -> bool:
        last = max(self.steps[-1] if self.steps else 0, self.evaluations[-1][0] if self.evaluations else 0)
        return last >= step


class Measuring:
    """Collects the measurements of a run from its events, as they come."""

    def __init__(self) -> None:
        self._steps = list[int]()
        self._losses = list[float]()
        self._evaluations = list[tuple[int, float, float | None]]()
        self._n_vocab = 0
        self._ended = False

    def update(self, event: ev.Event) -> None:
        """Take the next event of the run into account."""
        match event:
            case ev.Started():
                self._n_vocab = event.n_vocab
                self._ended = False
            case ev.StepDone():
                self._steps.append(event.step)
                self._losses.append(event.loss)
            case ev.Evaluated():
                self._evaluations.append((event.step, event.val_loss, event.exact_match))
            case ev.Stopped() | ev.Failed():
                self._ended = True

    @property
    def now(self) -> Measurements:
        """The measurements so far. Its lists grow with the run."""
        return Measurements(self._steps, self._losses, self._evaluations, self._n_vocab, self._ended)


def measure(events: Iterable[ev.Event]) -> Measurements:
    """Return the measurements of a run with these events."""
    measuring = Measuring()
    for event in events:
        measuring.update(event)
    return measuring.now


def is_reached(until: Until, current: Measurements) -> bool:
    """Return whether the current run meets all conditions of a stage."""
    last_step = current.steps[-1] if current.steps else 0
    if until.step is not None and last_step < until.step:
        return False
    if until.ended and not current.ended:
        return False
    bounds: tuple[tuple[Metric, Bound | None], ...] = (
        ("loss", until.loss_below),
        ("val_loss", until.val_loss_below),
    )
    for metric, bound in bounds:
        if bound is not None and not _is_less(current.value(metric), current.bound(bound)):
            return False
    above = until.exact_match_above
    return above is None or _is_less(above, current.value("exact_match"))


def right_number(question: Question, current: Measurements | None) -> float | None:
    """Return the answer of a question of kind number; None as long as the current run does not give it."""
    if isinstance(question.answer, float | int):
        return float(question.answer)
    if current is None:
        return None
    if question.measured is not None:
        if not isinstance(question.measured.step, int) and not current.ended:
            return None  # The last and the lowest value are known at the end.
        return current.value(question.measured.metric, question.measured.step)
    return current.ln_vocab_size


def is_right(question: Question, given: float, current: Measurements | None = None) -> bool | None:
    """Return whether an answer is right: the number of a choice, from 1, or a number. None: not known yet."""
    if question.kind == "choice":
        return given == question.right
    right = right_number(question, current)
    return None if right is None else _is_near(given, right, question.tolerance)


@dataclass(frozen=True)
class CheckedFact:
    """A fact and what the runs measured: one value for each run.

    holds: None where a value is not measured yet. expected: what the fact claims, such as "10.82 ± 2 %".
    """

    fact: Fact
    holds: bool | None
    values: tuple[float | None, ...]
    expected: str

    @property
    def sentence(self) -> str:
        """What was expected and what was measured, in one line."""
        measured = ", ".join("not measured" if value is None else f"{value:.4g}" for value in self.values) or "no run"
        place = self.fact.step if isinstance(self.fact.step, str) else f"step {self.fact.step}"
        trial = f" of {self.fact.trial}" if self.fact.trial else ""
        return f"{self.fact.metric}{trial} ({place}): expected {self.expected}, measured {measured}"


def check_fact(
    fact: Fact, current: Measurements | None, trials: Sequence[Measurements] = (), labels: Sequence[str] = ()
) -> CheckedFact:
    """Compare a fact with the current run, each trial, or one trial. labels: of the trials, in their order."""
    runs: Sequence[Measurements]
    if fact.trial:
        runs = [run for run, label in zip(trials, labels, strict=False) if label == fact.trial]
    elif fact.runs == "trials":
        runs = trials
    else:
        runs = [] if current is None else [current]
    values = tuple(run.value(fact.metric, fact.step) for run in runs)
    results = [_holds(fact, run, value) for run, value in zip(runs, values, strict=True)]
    holds = None if not results or None in results else all(results)
    if False in results:
        holds = False
    return CheckedFact(fact, holds, values, _expected(fact, runs[0] if runs else None))


def _holds(fact: Fact, run: Measurements, value: float | None) -> bool | None:
    if value is None:
        return None
    results = list[bool]()
    for name, bound in (("near", fact.near), ("above", fact.above), ("below", fact.below)):
        if bound is None:
            continue
        number = run.bound(bound)
        if number is None:
            return None
        results.append(
            _is_near(value, number, fact.within)
            if name == "near"
            else value > number
            if name == "above"
            else value < number
        )
    return all(results)


def _expected(fact: Fact, run: Measurements | None) -> str:
    parts = list[str]()
    if fact.near is not None:
        parts.append(f"{_shown(fact.near, run)} ± {100 * fact.within:g} %")
    if fact.above is not None:
        parts.append(f"above {_shown(fact.above, run)}")
    if fact.below is not None:
        parts.append(f"below {_shown(fact.below, run)}")
    return " and ".join(parts)


def _shown(bound: Bound, run: Measurements | None) -> str:
    number = None if run is None else run.bound(bound)
    if bound == LN_VOCAB_SIZE:
        return "ln V" if number is None else f"ln V = {number:.4g}"
    return f"{float(bound):.4g}"


def _is_near(value: float, right: float, tolerance: float) -> bool:
    return abs(value - right) <= tolerance * (abs(right) or 1.0)


def _is_less(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
