"""The weights and the data of a run, as its examples are measured with them."""

from pathlib import Path

from tui_lab.core.config.schema import Config
from tui_lab.core.examples.measure import OnProgress
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.core.training.task_factory import build_task
from tui_lab.data.dataset import Task
from tui_lab.util.errors import RunError


def task_of(run: Run, config: Config, report: OnProgress) -> Task:
    """Return the run's task. Raises RunError where the text is no longer the one it was trained on."""
    task = build_task(config, report)
    n_vocab = run.tokenizer().n_vocab
    if task.tokenizer.n_vocab != n_vocab:
        message = f"the text has changed: its vocabulary has {task.tokenizer.n_vocab:,} tokens now, not {n_vocab:,}"
        raise RunError.of("conflict", message, key="data.path", value=config.data.path)
    return task


def checkpoints(run: Run, step: int | None) -> list[Path]:
    """Return the checkpoints that are kept up to a step, the newest of each step. Raises RunError if there is none."""
    of_step = {step_of(path): path for path in run.saved_checkpoints()}
    if not of_step:
        raise RunError.of("not_found", "this run has no checkpoint yet", key=str(run.path))
    kept = [path for number, path in sorted(of_step.items()) if step is None or number <= step]
    if not kept:
        steps = ", ".join(f"{number:,}" for number in sorted(of_step))
        raise RunError.of("not_found", "no checkpoint at or before this step", key="--step", value=step, allowed=steps)
    return kept
