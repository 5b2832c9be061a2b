"""The summary of a run, and requirements on it such as "val_loss<=1.0"."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from tui_lab.core import events as ev
from tui_lab.core.events import Count
from tui_lab.core.runs.downsampled_log import DownsampledLog
from tui_lab.util.errors import ConfigError, first_line, nearest

Metric = Literal[
    "train_loss", "val_loss", "best_val_loss", "exact_match", "perplexity", "tokens_per_s", "tokens", "train_seconds"
]
METRICS: tuple[Metric, ...] = get_args(Metric)
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}

EndReason = ev.StopReason | Literal["failed", "interrupted"]
"""How a run ended; "interrupted" where its process ended first, or has not ended yet."""


_END_OF_PAUSE = (ev.Started, ev.Resumed, ev.Stopped, ev.Failed)


def _current_name(reason: Any) -> Any:
    return "interrupted" if reason == "unfinished" else reason


class Summary(BaseModel):
    """The result of a run. None: not known.

    train_loss: the exponentially weighted mean (0.9) of the steps' losses. tokens: samples in the run of a script that
    does not take tokens. message: the first line of its error, if it failed; of a run without steps, its last warning.
    """

    model_config = ConfigDict(frozen=True)

    event: Literal["summary"] = "summary"
    run: str
    reason: Annotated[EndReason, BeforeValidator(_current_name)]
    steps: Count
    parameters: Count | None
    n_vocab: Count | None
    train_loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    best_step: Count | None
    exact_match: float | None
    perplexity: float | None
    val_examples: Count | None
    tokens: Count
    tokens_per_s: float | None
    train_seconds: float
    changes: Count
    faults: tuple[str, ...]
    message: str = ""

    def metric(self, name: str) -> float | None:
        """Return the value of one of METRICS."""
        value: float | None = getattr(self, name)
        return value

    @property
    def has_time(self) -> bool:
        """Whether the time of the training is known, which a log that is imported may not have."""
        return self.reason != "imported" or self.train_seconds > 0

    def to_json(self) -> dict[str, Any]:
        """Return the fields, in which numbers may be NaN or infinite."""
        return self.model_dump() | {"faults": list(self.faults)}


def read_summary(text: str) -> Summary:
    """Return the summary in the JSON `text`. Raises ValueError for text of another shape."""
    try:
        return Summary.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not a summary: {first_line(error)}") from error


@dataclass
class Summarizer:
    """Collects what the summary needs from the events of a run, in constant memory."""

    started: ev.Started | None = None
    step: ev.StepDone | None = None
    evaluated: ev.Evaluated | None = None
    best: ev.Evaluated | None = None
    ending: ev.Stopped | ev.Failed | None = None
    seconds: float = 0.0
    changes: list[ev.Changed] = field(default_factory=list)
    non_finite: ev.NonFinite | None = None
    """What became non-finite first in the step at which the run failed, or in a step of a script."""
    _paused_step: int | None = None
    _warned: str = ""

    def update(self, event: ev.Event) -> None:
        """Take the next event of the run into account."""
        self._update_pause(event)
        match event:
            case ev.Started():
                self.started = event
                self.ending = None
                self.non_finite = None
            case ev.StepDone():
                self.step = event
                self.seconds += event.seconds
            case ev.Evaluated():
                self.evaluated = event
                if event.best:
                    self.best = event
            case ev.Changed():
                self.changes.append(event)
            case ev.NonFinite():
                self.non_finite = event
            case ev.Warned():
                self._warned = event.message
            case ev.Stopped() | ev.Failed():
                self.ending = event

    def _update_pause(self, event: ev.Event) -> None:
        """Follow whether the run is paused.

        A later step ends a pause too: of a long event log only both ends are read, without Resumed.
        """
        if isinstance(event, ev.Paused):
            self._paused_step = event.step
        elif self._paused_step is not None and (isinstance(event, _END_OF_PAUSE) or event.step > self._paused_step):
            self._paused_step = None

    @property
    def is_paused(self) -> bool:
        """Whether the run waits between two steps, after the events so far."""
        return self._paused_step is not None

    @property
    def reason(self) -> EndReason:
        """How the run ended, as far as it is known."""
        match self.ending:
            case ev.Stopped(reason=reason):
                return reason
            case ev.Failed():
                return "failed"
            case _:
                return "interrupted"

    @property
    def message(self) -> str:
        """The first line of the error of a run that failed; of one without steps, its last warning."""
        if isinstance(self.ending, ev.Failed):
            return self.ending.message.partition("\n")[0]
        return "" if self.step else self._warned

    def summary(self, run: str) -> Summary:
        """Return the summary after the events so far. run: the path to record in it."""
        step = self.step
        evaluated = self.evaluated
        best = self.best
        tokens = step.tokens if step else 0
        return Summary(
            run=run,
            reason=self.reason,
            steps=step.step if step else 0,
            parameters=(self.started.parameters or None) if self.started else None,
            n_vocab=(self.started.n_vocab or None) if self.started else None,
            train_loss=step.loss_ema if step else None,
            val_loss=evaluated.val_loss if evaluated else None,
            best_val_loss=best.val_loss if best else None,
            best_step=best.step if best else None,
            exact_match=evaluated.exact_match if evaluated else None,
            perplexity=evaluated.perplexity if evaluated else None,
            val_examples=(evaluated.examples or None) if evaluated else None,
            tokens=tokens,
            tokens_per_s=round(tokens / self.seconds, 1) if tokens and self.seconds > 0 else None,
            train_seconds=round(self.seconds, 3),
            changes=len(self.changes),
            faults=self.started.faults if self.started else (),
            message=self.message,
        )


def summarize_log(log: DownsampledLog) -> Summarizer:
    """Return a summarizer that has seen the events of a downsampled log, with the seconds of all steps."""
    summarizer = summarize(log.events())
    summarizer.seconds = log.seconds
    return summarizer


def summarize(events: Iterable[ev.Event]) -> Summarizer:
    """Return a summarizer that has seen all of `events`."""
    summarizer = Summarizer()
    for event in events:
        summarizer.update(event)
    return summarizer


@dataclass(frozen=True)
class Requirement:
    """METRIC, a comparison, and a bound. of_baseline: the bound as it was given, if it is one of a baseline."""

    metric: Metric
    compare: str
    bound: float
    of_baseline: str = ""

    @property
    def text(self) -> str:
        return f"{self.metric}{self.compare}{self.of_baseline or f'{self.bound:g}'}"

    def measured(self, summary: Summary) -> str:
        """Return the requirement and the value of the run, such as "exact_match ≥ 0.99: 1.00"."""
        compare = {"<=": "≤", ">=": "≥"}.get(self.compare, self.compare)
        requirement = f"{self.metric} {compare} {self.bound:g}"
        requirement += f" ({self.of_baseline})" if self.of_baseline else ""
        value = summary.metric(self.metric)
        if value is None:
            return f"{requirement}: this run has no {self.metric}"
        digits = self._digits(value)
        return f"{requirement}: {digits if set('.en') & set(digits) else f'{digits}.00'}"

    def _digits(self, value: float) -> str:
        """Four significant digits of a value, or as many as show on which side of the bound it is."""
        text = ""
        for n in (4 if abs(value) < 1e4 else 6, 9, 17):
            text = f"{value:.{n}g}"
            if COMPARE[self.compare](float(text), self.bound) == COMPARE[self.compare](value, self.bound):
                break
        return text

    def met(self, summary: Summary) -> bool:
        """Return whether the summary meets it; a metric that the run does not have is not met."""
        value = summary.metric(self.metric)
        return value is not None and COMPARE[self.compare](value, self.bound)


BASELINE = "baseline"
"""In a requirement, the value of the same metric in another run."""


def parse_requirement(text: str, baseline: Summary | None = None) -> Requirement:
    """Return the requirement in `text`, where the bound may be relative to the same metric of `baseline`.

    Raises ConfigError with the nearest metric, or where the baseline is missing or does not have the metric.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S.*?)\s*", text)
    of_baseline = match and re.fullmatch(BASELINE + r"\s*(?:([+*-])\s*(\S+))?", match[3])
    try:
        if match is None:
            raise ValueError
        number = float(of_baseline[2] or 0) if of_baseline else float(match[3])
    except ValueError:
        raise ConfigError.of(
            "invalid",
            "must be METRIC<=NUMBER (or <, >=, >), as in val_loss<=1.0, or relative to --baseline RUN, as in "
            "val_loss<=baseline+0.02 or tokens_per_s>=baseline*0.9",
            key="--require",
            value=text,
        ) from None
    metric = _metric(match[1])
    if not of_baseline:
        return Requirement(metric, match[2], number)
    value = _baseline_value(text, metric, baseline)
    bound = {"*": value * number, "-": value - number}.get(of_baseline[1], value + number)
    return Requirement(metric, match[2], bound, match[3].replace(" ", ""))


def _baseline_value(text: str, metric: Metric, baseline: Summary | None) -> float:
    """Return the metric of the baseline. Raises ConfigError where it is not known or not finite."""
    if baseline is None:
        raise ConfigError.of("missing", "needs --baseline RUN", key="--require", value=text)
    value = baseline.metric(metric)
    if value is None or not math.isfinite(value):
        reason = f"this run has no {metric}" if value is None else f"its {metric} is {value}"
        raise ConfigError.of("unavailable", reason, key="--baseline", value=baseline.run)
    return value


def _metric(name: str) -> Metric:
    """Return the metric with this name. Raises ConfigError with the nearest one."""
    refuse_unknown_metric(name, METRICS, "--require")
    return next(metric for metric in METRICS if metric == name)


def refuse_unknown_metric(name: str, metrics: Sequence[str], option: str) -> None:
    """Raise ConfigError, with the nearest one of `metrics`, unless `name` is among them. option: that has the name."""
    if name not in metrics:
        raise ConfigError.of(
            "unknown_name",
            "unknown metric",
            key=option,
            value=name,
            allowed=", ".join(metrics),
            suggestion=nearest(name, metrics),
        )


def unmet(requirements: Sequence[Requirement], summary: Summary) -> list[str]:
    """Return a line for each requirement that is not met, with the measured value."""
    return [requirement.measured(summary) for requirement in requirements if not requirement.met(summary)]
