"""The result of a trial, from the events of its run."""

import math
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.run_files import CONFIG
from tui_lab.core.runs.summary import Summarizer, Summary, summarize_log
from tui_lab.core.runs.sweep.folder import LOSS, TO_TARGET, Result

ReportMetric = Callable[[int, float], bool]
"""Called with the step and the metric; returns whether to stop the trial early."""


def summary_if_ended(folder: Path) -> Summarizer | None:
    """Summarize a run that ended before its result was written; None if there is something left to train."""
    if not (folder / CONFIG).is_file():
        return None
    summarizer = summarize_log(Run(folder).downsampled())
    return None if summarizer.reason in ("stopped", "interrupted") else summarizer


def metric_at(event: ev.Evaluated, summarizer: Summarizer, metric: str) -> float | None:
    """Return the metric at an evaluation."""
    if metric == "train_loss":
        return summarizer.step.loss_ema if summarizer.step else None
    value = getattr(event, "val_loss" if metric in (LOSS, "best_val_loss") else metric, None)
    return None if value is None else float(value)


def result_of(summarizer: Summarizer, folder: Path, metric: str, *, pruned: bool = False) -> Result | None:
    """Return the result of a run; None if it was stopped before its end."""
    summary = summarizer.summary(str(folder))
    value = _value(summary, metric)
    if isinstance(summarizer.ending, ev.Failed):
        return Result("failed", message=summarizer.ending.message, summary=summary)
    if pruned:
        return Result("pruned", value, f"stopped by the pruner after step {summary.steps:,}", summary)
    if summarizer.reason == "stopped":
        return None
    if metric in TO_TARGET and summarizer.reason != "target":
        return Result("failed", message=f"train.target_loss not reached by step {summary.steps:,}", summary=summary)
    if value is None or not math.isfinite(value):
        return Result("failed", message=f"{metric} is {'unknown' if value is None else value}", summary=summary)
    return Result("done", value, summary=summary)


def failure_of(error: Exception) -> Result:
    """Return the result of a trial that an exception ended: a bad config or file, or user code that raises."""
    if isinstance(error, ValueError | OSError) and str(error):
        return Result("failed", message=str(error))
    traceback.print_exception(error, file=sys.stderr)
    return Result("failed", message=f"{type(error).__name__}: {error}")


def _value(summary: Summary, metric: str) -> float | None:
    if metric == LOSS:
        return summary.train_loss if summary.val_loss is None else summary.val_loss
    return summary.metric(metric)
