"""Train one trial in its run folder: from the start, from its checkpoint, or not at all where it has ended."""

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
from tui_lab.core.runs.open_run import Opened
from tui_lab.core.runs.summary import Summarizer, summarize_log
from tui_lab.core.runs.sweep.folder import Result
from tui_lab.core.trainer import Trainer

Report = Callable[[int, float], bool]
"""Told the metric after so many updates; true where the trial shall stop early."""


class Stopper:
    """Asks whatever trains here to save and stop, from any thread, and keeps it from going on with another."""

    def __init__(self) -> None:
        self.asked = False
        self._lock = threading.Lock()
        self._trainer: Trainer | None = None

    def ask(self) -> None:
        with self._lock:
            self.asked = True
            if self._trainer is not None:
                self._trainer.commands.put(cmd.Stop())

    @contextmanager
    def over(self, trainer: Trainer) -> Iterator[None]:
        """While the block runs, `trainer` is what is asked."""
        with self._lock:
            self._trainer = trainer
            if self.asked:
                trainer.commands.put(cmd.Stop())
        try:
            yield
        finally:
            with self._lock:
                self._trainer = None


def train_trial(
    name: str, config: Callable[[], Config], folder: Path, metric: str, stopper: Stopper, report: Report | None = None
) -> Result | None:
    """How the trial ended; None where it was stopped, saved, before its end. Whatever goes wrong is a failed trial."""
    try:
        if (seen := _ended(folder)) is not None:
            return _result(seen, folder, metric)
        opened = _open(name, config, folder)
        pruned = _train(opened, metric, stopper, report)
        return _result(opened.seen, folder, metric, pruned=pruned)
    except Exception as error:
        # A config that does not fit its data, or a model of one's own that raises: a row of the sweep, not its end.
        known = isinstance(error, ValueError | OSError) and str(error)
        if not known:
            traceback.print_exc(file=sys.stderr)
        return Result("failed", message=str(error) if known else f"{type(error).__name__}: {error}")


def _ended(folder: Path) -> Summarizer | None:
    """What a run came to that ended before anybody could say so; None where there is something left to train."""
    if not (folder / CONFIG).is_file():
        return None
    seen = summarize_log(Run(folder).downsampled())
    over = isinstance(seen.ending, ev.Failed) or (seen.ending is not None and seen.ending.reason != "stopped")
    return seen if over else None


def _open(name: str, config: Callable[[], Config], folder: Path) -> Opened:
    if any((folder / "checkpoints").glob("step-*")):
        return open_run.reopen(str(folder), None)
    # Cut off before its first checkpoint: what it wrote is of no use to anyone.
    shutil.rmtree(folder, ignore_errors=True)
    return open_run.begin(name, config(), folder)


def _train(opened: Opened, metric: str, stopper: Stopper, report: Report | None) -> bool:
    """Train to the end; whether `report` stopped it."""
    try:
        return _trained(opened, metric, stopper, report)
    finally:
        opened.close()


def _trained(opened: Opened, metric: str, stopper: Stopper, report: Report | None) -> bool:
    """Raises OSError where the disk refuses the record."""
    seen, run, pruned = opened.seen, opened.run, False
    with stopper.over(opened.trainer):
        for event in run.record(opened.trainer.events()):
            seen.update(event)
            if isinstance(event, ev.SaveFailed):
                raise OSError(event.message)
            value = _reported(event, seen, metric)
            if report is not None and value is not None and not pruned and report(event.step, value):
                pruned = True
                opened.trainer.commands.put(cmd.Stop())
    run.write_summary(seen.summary(str(run.path)))
    # It may have made its last update before the word came.
    return pruned and seen.reason == "stopped"


def _reported(event: ev.Event, seen: Summarizer, metric: str) -> float | None:
    """The metric as an evaluation knows it."""
    if not isinstance(event, ev.Evaluated):
        return None
    if metric == "train_loss":
        return seen.step.loss_ema if seen.step else None
    found = getattr(event, "val_loss" if metric == "best_val_loss" else metric, None)
    return None if found is None else float(found)


def _result(seen: Summarizer, folder: Path, metric: str, *, pruned: bool = False) -> Result | None:
    summary = seen.summary(str(folder))
    value = summary.metric(metric)
    if isinstance(seen.ending, ev.Failed):
        return Result("failed", message=seen.ending.message, summary=summary)
    if pruned:
        return Result("pruned", value, f"stopped by the pruner after step {summary.steps:,}", summary)
    if seen.reason == "stopped":
        return None
    if value is None or not math.isfinite(value):
        return Result("failed", message=f"its {metric} is {'not known' if value is None else value}", summary=summary)
    return Result("done", value, summary=summary)
