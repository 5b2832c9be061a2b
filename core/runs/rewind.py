"""Rewind a spike: a fork from before it that skips its rows or has a lower learning rate."""

from collections.abc import Mapping
from typing import Any

from tui_lab.core.commands import CommandQueue
from tui_lab.core.config import settings
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.data.dataset import ReportProgress


def rewind(
    run: Run,
    checkpoint_step: int | None,
    changes: Mapping[str, Any],
    progress: ReportProgress | None = None,
    commands: CommandQueue | None = None,
) -> OpenRun:
    """Fork `run` at its checkpoint of a step with other settings; None: start it again from step 0.

    The examples are drawn in the same order, so that the curves can be compared. Raises ConfigError,
    DataError or RunError.
    """
    if checkpoint_step is None:
        config = settings.with_values(run.trainer_config(), changes)
        return open_run.start(f"{run.name}-fork", config, progress=progress, commands=commands)
    config = run.read_checkpoint(checkpoint_step, ckpt.load_progress).config
    return open_run.fork(str(run.path), settings.with_values(config, changes), progress, commands, checkpoint_step)
