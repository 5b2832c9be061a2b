"""Set up a preset, a config or a run for training, without a run folder: nothing is recorded, and no run is changed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.core.training.checkpoint import Checkpoint
    from tui_lab.core.training.setup import TrainSetup
    from tui_lab.data.dataset import Task


@dataclass(frozen=True)
class TrainingSource:
    """What a PRESET, CONFIG or RUN of the command line stands for. checkpoint: of a run with one."""

    config: Config
    run: Run | None = None
    checkpoint: "Checkpoint | None" = None

    def with_seed(self, seed: int) -> "TrainingSource":
        """Return this source with another `train.seed`: other batches and, without a checkpoint, other weights."""
        config = settings.changed(self.config, "train.seed", seed)
        if self.checkpoint is None:
            return replace(self, config=config)
        progress = replace(self.checkpoint.progress, config=config)
        return replace(self, config=config, checkpoint=replace(self.checkpoint, progress=progress))


def read_source(source: str, overrides: Sequence[str] = (), *, initial_weights: bool = False) -> TrainingSource:
    """Read a preset, a config file, or a run with its newest checkpoint. Raises ConfigError or RunError.

    initial_weights: of a run, read the settings only.
    """
    if source in settings.presets() or settings.is_file(Path(source)):
        return TrainingSource(settings.load(source, overrides))
    try:
        run = runs.find(source)
    except RunError:
        settings.load(source)  # Raises an error that lists the presets.
        raise
    config = run.trainer_config()
    if initial_weights or not run.has_checkpoint:
        return TrainingSource(settings.build(config.model_dump(), overrides), run)

    from tui_lab.core.training import checkpoint as ckpt

    checkpoint = run.read_latest(ckpt.load)
    config = settings.build(checkpoint.progress.config.model_dump(), overrides)
    return TrainingSource(config, run, checkpoint).with_seed(config.train.seed)


def set_up_source(source: TrainingSource, task: "Task") -> "TrainSetup":
    """Build the model and the optimizer, with the weights of the checkpoint if there is one.

    Raises ConfigError, DataError, RunError, or TrainingError when memory runs out.
    """
    from tui_lab.core.runs.open_run import translate_out_of_memory
    from tui_lab.core.training.setup import set_up

    with translate_out_of_memory(source.config, task.tokenizer.n_vocab):
        return set_up(source.config, task, source.checkpoint)
