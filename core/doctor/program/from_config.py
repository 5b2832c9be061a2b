"""A config as a target: everything about it is known, so every check can run."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.measures.loss_probe import ConstantLogits
from tui_lab.core.doctor.program.target import Draws, Pair, Target, Update
from tui_lab.core.doctor.program.target_rules import next_token
from tui_lab.core.kernels.device import choose_device, use_threads
from tui_lab.core.training.model_factory import build_model, hooks_of, optimizers_of
from tui_lab.core.training.optim import set_lr
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.training.train_step import TrainStepHooks, apply_gradients, backward, mean_loss
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Dataset, Task
from tui_lab.data.loader import Loader
from tui_lab.data.tasks.reverse import to_xy
from tui_lab.data.tokenizers import show

VALIDATION_EXAMPLES = 64
TRAINING_EXAMPLES = 2**17
"""The most examples that are compared to find a leak."""


def target_from_config(config: Config, task: Task | None = None, weights: dict[str, Tensor] | None = None) -> Target:
    """Return the target of `config`, untrained or with `weights`. Raises ConfigError, DataError or RunError."""
    task = task or build_task(config)
    use_threads(config.train.threads)
    device = choose_device(config.train.device)
    loader = build_loader(config, task)
    model = build_model(config, task.tokenizer.n_vocab).to(device)
    if weights is not None:
        from tui_lab.core.training.checkpoint import restore_model

        restore_model(model, weights)
    optimizers = optimizers_of(config, model)
    hooks = hooks_of(config)
    set_lr(optimizers, config.optim.lr * hooks.lr_factor)

    return Target(
        model=model,
        optimizers=optimizers,
        batch=batches_of(loader),
        forward=lambda model, batch: model(batch[0]),
        loss_function=lambda model, batch: mean_loss(cast(Model, model), hooks, *batch),
        output_loss=lambda output, batch: mean_loss(cast(Model, ConstantLogits(output)), hooks, *batch),
        update=update_of(hooks, config.optim.grad_clip),
        ignored=IGNORED,
        n_vocab=task.tokenizer.n_vocab,
        rule=rule_of(config, task),
        pinned=config.data.overfit,
        draws=lambda step: draws(loader, step),
        validation=lambda: shared_examples(task),
        d_head=None if config.model.source else config.model.d_head,
        untied=None if config.model.source else True,
        dropout=config.model.dropout,
        untrained=weights is None,
        show=lambda token: show(task.tokenizer, token),
        seed=config.train.seed,
    )


def batches_of(loader: Loader) -> Callable[[int], Pair]:
    """Return a function step → the loader's batch as contiguous tensors."""

    def batch(step: int) -> Pair:
        arrays = loader.batch(step)
        return torch.from_numpy(arrays.x).contiguous(), torch.from_numpy(arrays.y).contiguous()

    return batch


def update_of(hooks: TrainStepHooks, clip: float) -> Update:
    """Return the run's own update of a given batch; the gradient norm is clipped to `clip`."""

    def update(model: nn.Module, optimizers: Sequence[Optimizer], batch: Pair) -> float:
        loss, norm = backward(cast(Model, model), hooks, *batch)
        apply_gradients(hooks, optimizers, float(norm), clip)
        return float(loss)

    return update


def rule_of(config: Config, task: Task) -> Callable[[Tensor], Tensor] | None:
    """Return the rule x → targets of the config's task; None if it is not known, as of most tasks of plug-ins."""
    if task.next_token:
        return next_token
    if config.data.task != "reverse":
        return None
    length = config.data.length

    def reversed_row(x: Tensor) -> Tensor:
        return torch.from_numpy(to_xy(x[:, :length].numpy())[1])

    return reversed_row


def draws(loader: Loader, step: int) -> Draws:
    """Return the examples that the loader draws at `step`, and those that its order declares."""
    first = loader.draw_at(step)
    declared = loader.order.draw(np.arange(first, first + loader.drawn, dtype=np.int64))
    return Draws(loader.drawn_between(step, step), declared)


def shared_examples(task: Task) -> tuple[int, int]:
    """Return how many of up to 64 validation examples are training examples, and the number compared.

    Windows of a text are compared by their position in it, since short ones repeat in any text; rows by their tokens.
    """
    val = _spread(task.val, VALIDATION_EXAMPLES)
    train = _spread(task.train, TRAINING_EXAMPLES)
    val_offsets = task.val.offsets(val)
    train_offsets = task.train.offsets(train)
    if val_offsets is not None and train_offsets is not None:
        inside = (val_offsets >= train_offsets.min()) & (val_offsets <= train_offsets.max())
        return int(inside.sum()), len(val)
    rows = {row.tobytes() for row in task.train.examples(train)[0]}
    return sum(row.tobytes() in rows for row in task.val.examples(val)[0]), len(val)


def _spread(dataset: Dataset, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the ids of all examples, or of `most` evenly spaced ones, with the first and the last."""
    n = min(most, dataset.n_examples)
    return np.linspace(0, dataset.n_examples - 1, n).round().astype(np.int64)
