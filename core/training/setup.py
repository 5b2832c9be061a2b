"""Builds everything a trainer needs, so that whatever can fail fails before a run folder is written."""

from dataclasses import dataclass, replace

import torch
from torch.optim import Optimizer

from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.kernels.device import choose_device, use_threads
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.checkpoint import Checkpoint, Progress, Weights
from tui_lab.core.training.compiled import require_compiler
from tui_lab.core.training.loss_scale import LossScale
from tui_lab.core.training.model_factory import build_model, hooks_of, optimizers_of
from tui_lab.core.training.task_factory import build_loader
from tui_lab.core.training.train_step import TrainStepHooks
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import Task
from tui_lab.data.loader import Loader


@dataclass(frozen=True)
class TrainSetup:
    """The parts of one run. best: the weights of the best evaluation so far, if resumed from a checkpoint."""

    task: Task
    progress: Progress
    device: torch.device
    threads: int
    loader: Loader
    model: Model
    optimizers: list[Optimizer]
    hooks: TrainStepHooks
    resumed: bool = False
    best: Weights | None = None


def set_up(config: Config, task: Task, resume: Checkpoint | None = None) -> TrainSetup:
    """Build the parts of a new training of `config`, or of one that continues from `resume`, with its own config.

    Raises ConfigError, DataError, or RunError if the checkpoint does not fit its config.
    """
    progress = Progress(config) if resume is None else resume.progress
    config = progress.config
    n_vocab = task.tokenizer.n_vocab
    threads = use_threads(config.train.threads)
    device = choose_device(config.train.device)
    if config.train.compile:
        require_compiler(device)
    if resume is not None:
        ckpt.check_fits(config, n_vocab, resume.model)
    loader = build_loader(config, task, from_step=progress.from_step, from_draw=progress.from_draw)
    model = build_model(with_kernels(config, n_vocab), n_vocab).to(device)
    # A fork may change the precision.
    scale = (progress.loss_scale or LossScale()) if model.precision == "fp16" else None
    progress = replace(progress, loss_scale=scale)
    optimizers = optimizers_of(config, model)
    if resume is not None:
        ckpt.restore_model(model, resume.model)
        ckpt.restore_optimizers(optimizers, resume.optimizer)
    return TrainSetup(
        task=task,
        progress=progress,
        device=device,
        threads=threads,
        loader=loader,
        model=model,
        optimizers=optimizers,
        hooks=hooks_of(config),
        resumed=resume is not None,
        best=None if resume is None else resume.best,
    )
