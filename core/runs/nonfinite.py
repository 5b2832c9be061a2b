"""What became non-finite first in a step of a recorded run: replays it from a checkpoint."""

from collections import deque
from collections.abc import Sequence

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.nonfinite_step import trace_overflow
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.train_step import NotFiniteError, Overflow
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.errors import RunError


def trace_step(run: Run, step: int | None = None) -> ev.NonFinite | ev.Warned | None:
    """Train again from the newest checkpoint before step `step`, from 1, and trace what is not finite first.

    Settings that were changed since then are changed again. step: None: the step at which the run failed. Returns None
    if all steps until then are finite; writes nothing. Raises RunError for the run of a script and where there
    is no checkpoint, ConfigError for a model of the user that is not trusted.
    """
    run.refuse_script()
    end = failed_step(run) if step is None else step
    checkpoint = run.read_checkpoint(end - 1, ckpt.load)
    first = checkpoint.progress.step
    if first >= end:
        raise RunError.of("not_found", f"there is no checkpoint before step {end}", key=run.name)
    changes = [change for change in run.log.changes() if first <= change.step < end]
    config = checkpoint.progress.config
    trainer = Trainer(set_up(config, build_task(config), checkpoint))
    overflow = _train_until(trainer, end, changes)
    # Outside of the handler, where the error no longer keeps the memory of its step alive.
    events = [] if overflow is None else list(trace_overflow(trainer, overflow))
    return next((event for event in events if isinstance(event, ev.NonFinite | ev.Warned)), None)


def failed_step(run: Run) -> int:
    """Return the step that was not made when the run failed. Raises RunError if it did not fail."""
    endings = [event for event in run.downsampled().events() if isinstance(event, ev.Stopped | ev.Failed)]
    if not endings or not isinstance(endings[-1], ev.Failed):
        raise RunError.of("not_found", "this run has not failed; name a step with --step", key=run.name)
    return endings[-1].step + 1


def _train_until(trainer: Trainer, end: int, changes: Sequence[ev.Changed]) -> Overflow | None:
    """Train to step `end` with the changes of settings on the way; return what was not finite, or None."""
    try:
        while True:
            for change in changes:
                if change.step == trainer.step:
                    deque(trainer.change(cmd.Set(change.key, change.new)), maxlen=0)
            if trainer.step >= min(end, trainer.config.train.steps):
                return None
            trainer.train_step()
    except NotFiniteError as error:
        return error.overflow
