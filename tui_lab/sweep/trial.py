"""Train one trial in its run folder: from the start, or from its checkpoint."""

import shutil
from collections.abc import Callable
from pathlib import Path

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import open_run
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.runs.sweep.folder import Result
from tui_lab.sweep.stopper import Stopper
from tui_lab.sweep.trial_result import ReportMetric, failure_of, metric_at, result_of, summary_if_ended


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
        summarizer = summary_if_ended(folder)
        if summarizer is not None:
            return result_of(summarizer, folder, metric)
        opened = _open(name, config, folder)
        pruned = _train(opened, metric, stopper, report)
        return result_of(opened.summarizer, folder, metric, pruned=pruned)
    except Exception as error:
        return failure_of(error)


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
    with stopper.attached(lambda: opened.trainer.commands.put(cmd.Stop())):
        for event in opened.run.record(opened.trainer.events()):
            opened.summarizer.update(event)
            if isinstance(event, ev.SaveFailed):
                raise OSError(event.message)
            if report is None or prune_requested or not isinstance(event, ev.Evaluated):
                continue
            value = metric_at(event, opened.summarizer, metric)
            if value is not None and report(event.step, value):
                prune_requested = True
                opened.trainer.commands.put(cmd.Stop())
    return prune_requested
