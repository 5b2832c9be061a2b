"""Train one trial in its run folder: from the start, or from its checkpoint."""

import math
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import CONFIG, Run
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.runs.summary import Summarizer, summarize_log
from tui_lab.core.runs.sweep.folder import TO_TARGET, Result
from tui_lab.core.training.trainer import Trainer

ReportMetric = Callable[[int, float], bool]
"""Called with the step and the metric; returns whether to stop the trial early."""


class Stopper:
    """Stops the trainer that runs in this process, from any thread, and those that are attached later."""

    def __init__(self) -> None:
        self.requested = False
        self._lock = threading.Lock()
        self._trainer: Trainer | None = None

    def request(self) -> None:
        """Save and stop."""
        with self._lock:
            self.requested = True
            if self._trainer is not None:
                self._trainer.commands.put(cmd.Stop())

    @contextmanager
    def attached(self, trainer: Trainer) -> Iterator[None]:
        """Let `request` stop `trainer` while the block runs."""
        with self._lock:
            self._trainer = trainer
            if self.requested:
                trainer.commands.put(cmd.Stop())
        try:
            yield
        finally:
            with self._lock:
                self._trainer = None


def train_trial(
    name: str,
    config: Callable[[], Config],
    folder: Path,
    metric: str,
    stopper: Stopper,
    report: ReportMetric | None = None,
) -> Result | None:
    """Train a trial and return its result, or None if it was stopped and saved before its end.

    An exception is the result "failed", so that the sweep continues with the other trials.
    """
    try:
        summarizer = _summary_if_ended(folder)
        if summarizer is not None:
            return _result(summarizer, folder, metric)
        opened = _open(name, config, folder)
        pruned = _train(opened, metric, stopper, report)
        return _result(opened.summarizer, folder, metric, pruned=pruned)
    except Exception as error:
        # For example a config that does not fit its data, or a user's model that raises.
        if isinstance(error, ValueError | OSError) and str(error):
            return Result("failed", message=str(error))
        traceback.print_exc(file=sys.stderr)
        return Result("failed", message=f"{type(error).__name__}: {error}")


def _summary_if_ended(folder: Path) -> Summarizer | None:
    """Summarize a run that ended before its result was written; None if there is something left to train."""
    if not (folder / CONFIG).is_file():
        return None
    summarizer = summarize_log(Run(folder).downsampled())
    return None if summarizer.reason in ("stopped", "interrupted") else summarizer


def _open(name: str, config: Callable[[], Config], folder: Path) -> OpenRun:
    if any((folder / "checkpoints").glob("step-*")):
        return open_run.resume(str(folder), None)
    # Without a checkpoint there is nothing to resume.
    shutil.rmtree(folder, ignore_errors=True)
    return open_run.start(name, config(), folder)


def _train(opened: OpenRun, metric: str, stopper: Stopper, report: ReportMetric | None) -> bool:
    """Train to the end; return whether `report` stopped it. Raises OSError if a file cannot be written."""
    try:
        prune_requested = _consume_events(opened, metric, stopper, report)
        opened.run.write_summary(opened.summarizer.summary(str(opened.run.path)))
    finally:
        opened.close()
    # The last step may have been done before the request arrived.
    return prune_requested and opened.summarizer.reason == "stopped"


def _consume_events(opened: OpenRun, metric: str, stopper: Stopper, report: ReportMetric | None) -> bool:
    prune_requested = False
    with stopper.attached(opened.trainer):
        for event in opened.run.record(opened.trainer.events()):
            opened.summarizer.update(event)
            if isinstance(event, ev.SaveFailed):
                raise OSError(event.message)
            if report is None or prune_requested or not isinstance(event, ev.Evaluated):
                continue
            value = _metric_of(event, opened.summarizer, metric)
            if value is not None and report(event.step, value):
                prune_requested = True
                opened.trainer.commands.put(cmd.Stop())
    return prune_requested


def _metric_of(event: ev.Evaluated, summarizer: Summarizer, metric: str) -> float | None:
    """Return the metric at an evaluation."""
    if metric == "train_loss":
        return summarizer.step.loss_ema if summarizer.step else None
    value = getattr(event, "val_loss" if metric == "best_val_loss" else metric, None)
    return None if value is None else float(value)


def _result(summarizer: Summarizer, folder: Path, metric: str, *, pruned: bool = False) -> Result | None:
    summary = summarizer.summary(str(folder))
    value = summary.metric(metric)
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
