"""Builds the task and the loader of a config."""

from dataclasses import replace

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.training.faults.data import DATA_FAULTS, FaultyLoader
from tui_lab.core.training.task_registry import make_task
from tui_lab.data.dataset import ReportProgress, Task, TaskSettings
from tui_lab.data.loader import Loader
from tui_lab.data.skipped import WithoutExamples


def build_task(config: Config, progress: ReportProgress | None = None) -> Task:
    """Return the task of `config`, and encode its corpus if necessary. Raises DataError."""
    task = _faultless_task(config, progress)
    return replace(task, val=task.train) if "leaked_validation" in config.faults else task


def _faultless_task(config: Config, progress: ReportProgress | None) -> Task:
    data = config.data
    task_settings = TaskSettings(
        context=config.model.context,
        val_fraction=data.val_fraction,
        path=data.path,
        tokenizer=data.tokenizer,
        vocab=data.vocab,
        stride=data.stride,
        length=data.length,
        n_digits=data.n_digits,
        options=data.options,
        progress=progress,
    )
    return make_task(data.task, task_settings)


LOADER_KEYS = {
    "train.batch_size": "batch_size",
    "train.seed": "seed",
    "data.shuffle": "shuffle",
    "data.overfit": "overfit",
}
"""The settings that change the batches of a dataset, with their names in Loader."""


def change_loader(loader: Loader, step: int, config: Config) -> Loader:
    """Return `loader` with the settings of `config` from `step` on. Raises DataError as `build_loader` does."""
    return loader.changed(step, **{name: settings.get(config, key) for key, name in LOADER_KEYS.items()})


def build_loader(config: Config, task: Task, *, from_step: int = 0, from_draw: int = 0) -> Loader:
    """Return the training loader of `config`. Raises DataError if it needs more examples than there are."""
    skipped = config.data.skip_examples
    loader = Loader(
        WithoutExamples(task.train, skipped) if skipped else task.train,
        config.train.batch_size,
        config.train.seed,
        config.data.shuffle,
        config.data.overfit,
        from_step,
        from_draw,
    )
    faults = tuple(name for name in config.faults if name in DATA_FAULTS)
    return FaultyLoader(**vars(loader), faults=faults) if faults else loader
