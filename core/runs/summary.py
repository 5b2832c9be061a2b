"""What a run came to, and requirements on it such as "val_loss<=1.0"."""

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from tui_lab.core import events as ev
from tui_lab.core.config.settings import did_you_mean
from tui_lab.core.events import LARGEST
from tui_lab.core.runs.downsampled_log import Digest
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import number

METRICS = ("train_loss", "val_loss", "best_val_loss", "exact_match", "perplexity", "tokens_per_s")
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@dataclass
class Summariser:
    """Watches events go by and keeps what the summary needs, in constant memory."""

    started: ev.Started | None = None
    step: ev.StepDone | None = None
    evaluated: ev.Evaluated | None = None
    best: ev.Evaluated | None = None
    ending: ev.Stopped | ev.Failed | None = None
    seconds: float = 0.0
    changes: list[ev.Changed] = field(default_factory=list)

    def watch(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self.started, self.ending = event, None
            case ev.StepDone():
                self.step = event
                self.seconds += event.seconds
            case ev.Evaluated():
                self.evaluated = event
                if event.best:
                    self.best = event
            case ev.Changed():
                self.changes.append(event)
            case ev.Stopped() | ev.Failed():
                self.ending = event

    def summary(self, run: str) -> dict[str, Any]:
        """JSON values. train_loss is the exponentially weighted mean (0.9) of the steps' losses; None: not known."""
        step, evaluated, best = self.step, self.evaluated, self.best
        tokens = step.tokens if step else 0
        return {
            "event": "summary",
            "run": run,
            "reason": self._reason(),
            "steps": step.step if step else 0,
            "parameters": self.started.parameters if self.started else None,
            "n_vocab": self.started.n_vocab if self.started else None,
            "train_loss": step.loss_ema if step else None,
            "val_loss": evaluated.val_loss if evaluated else None,
            "best_val_loss": best.val_loss if best else None,
            "best_step": best.step if best else None,
            "exact_match": evaluated.exact_match if evaluated else None,
            "perplexity": evaluated.perplexity if evaluated else None,
            "val_examples": evaluated.examples if evaluated else None,
            "tokens": tokens,
            "tokens_per_s": round(tokens / self.seconds, 1) if self.seconds > 0 else None,
            "train_seconds": round(self.seconds, 3),
            "changes": len(self.changes),
            "faults": list(self.started.faults) if self.started else [],
        }

    def _reason(self) -> str:
        match self.ending:
            case ev.Stopped(reason=reason):
                return reason
            case ev.Failed():
                return "failed"
            case _:
                return "unfinished"


_SHAPE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("event", "run", "reason"), (str,)),
    **dict.fromkeys(("steps", "tokens", "changes"), (int,)),
    **dict.fromkeys((*METRICS, "parameters", "n_vocab", "best_step", "val_examples"), (int, float, NoneType)),
    "train_seconds": (int, float),
    "faults": (list,),
}


def from_json(record: Any) -> dict[str, Any]:
    """A summary read back from JSON, its numbers as numbers. Raises ValueError for what is none."""
    if not isinstance(record, dict) or not record.keys() >= _SHAPE.keys():
        raise ValueError("not a summary")
    found = record | {key: number(record[key]) for key in METRICS}
    for key, types in _SHAPE.items():
        if type(found[key]) not in types or (type(found[key]) is int and abs(found[key]) > LARGEST):
            raise ValueError(f"not a summary: {key}")
    if not all(isinstance(fault, str) for fault in found["faults"]):
        raise ValueError("not a summary: faults")
    return found


def summarise_digest(digest: Digest) -> Summariser:
    """A summariser that knows what a digest tells."""
    summariser = summarise(digest.events())
    summariser.seconds = digest.seconds
    return summariser


def summarise(events: Iterable[ev.Event]) -> Summariser:
    """A summariser that has watched all of `events`."""
    summariser = Summariser()
    for event in events:
        summariser.watch(event)
    return summariser


@dataclass(frozen=True)
class Requirement:
    """METRIC, a comparison, and a bound."""

    metric: str
    compare: str
    bound: float

    @property
    def text(self) -> str:
        return f"{self.metric}{self.compare}{self.bound:g}"

    def met(self, summary: dict[str, Any]) -> bool:
        """Whether the summary meets it; a metric that the run does not have is not met."""
        value = summary.get(self.metric)
        return value is not None and COMPARE[self.compare](value, self.bound)


def parse_requirement(text: str) -> Requirement:
    """Raises ConfigError with the metrics that there are."""
    found = re.fullmatch(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*", text)
    try:
        if found is None:
            raise ValueError
        metric, compare, bound = found[1], found[2], float(found[3])
    except ValueError:
        raise ConfigError([f"--require {text!r}: write METRIC<=NUMBER (or <, >=, >), as in val_loss<=1.0"]) from None
    if metric not in METRICS:
        allowed = f"allowed are {', '.join(METRICS)}"
        raise ConfigError([f"--require {text!r}: unknown metric {metric}{did_you_mean(metric, METRICS)} ({allowed})"])
    return Requirement(metric, compare, bound)


def unmet(requirements: Sequence[Requirement], summary: dict[str, Any]) -> list[str]:
    """A line for each requirement that is not met, with the value found."""
    return [
        f"required {wanted.text}, found {summary.get(wanted.metric)}"
        for wanted in requirements
        if not wanted.met(summary)
    ]
