"""The lab's own trainings as subjects: everything about them is known, so every check can run."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.checks.targets import next_token
from tui_lab.core.doctor.target import Draws, Pair, Subject
from tui_lab.core.kernels.device import choose_device, use_threads
from tui_lab.core.model import Transformer
from tui_lab.core.training.model_factory import build_model, hooks_of, optimizers_of
from tui_lab.core.training.optim import set_lr
from tui_lab.core.training.task_factory import build_loader, build_task
from tui_lab.core.training.train_step import TrainStepHooks, apply_gradients, backward, mean_loss
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Dataset, Task
from tui_lab.data.loader import Loader
from tui_lab.data.tasks.reverse import to_xy
from tui_lab.data.tokenizers import show

VALIDATION_LOOKED, TRAINING_LOOKED = 64, 2**17


def lab_subject(config: Config, task: Task | None = None, weights: dict[str, Tensor] | None = None) -> Subject:
    """The training of `config`, untrained or with `weights`. Raises ConfigError, DataError or RunError."""
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

    return Subject(
        model=model,
        optimizers=optimizers,
        batch=batches_of(loader),
        objective=lambda model, x, y: mean_loss(cast(Model, model), hooks, x, y),
        update=update_of(hooks, config.optim.grad_clip),
        ignored=IGNORED,
        n_vocab=task.tokenizer.n_vocab,
        rule=rule_of(config),
        pinned=config.data.overfit,
        draws=lambda step: draws(loader, step),
        validation=lambda: shared_examples(task),
        attention=None if config.model.source else attention_of,
        d_head=None if config.model.source else config.model.d_head,
        untied=None if config.model.source else True,
        dropout=config.model.dropout,
        untrained=weights is None,
        show=lambda token: show(task.tokenizer, token),
        seed=config.train.seed,
    )


def batches_of(loader: Loader) -> Callable[[int], Pair]:
    """The loader's batches as contiguous tensors."""

    def batch(step: int) -> Pair:
        found = loader.batch(step)
        return torch.from_numpy(found.x).contiguous(), torch.from_numpy(found.y).contiguous()

    return batch


def update_of(hooks: TrainStepHooks, clip: float) -> Callable[[nn.Module, Sequence[Optimizer], Tensor, Tensor], float]:
    """The training's own update, on a batch that is given."""

    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> float:
        loss, norm = backward(cast(Model, model), hooks, x, y)
        apply_gradients(model, hooks, optimizers, float(norm), clip)
        return float(loss)

    return update


def rule_of(config: Config) -> Callable[[Tensor], Tensor]:
    """What the task's targets are for an x."""
    if config.data.task == "text":
        return next_token
    length = config.data.length

    def reversed_row(x: Tensor) -> Tensor:
        return torch.from_numpy(to_xy(x[:, :length].numpy())[1])

    return reversed_row


def draws(loader: Loader, step: int) -> Draws:
    first = loader.draw_at(step)
    declared = loader.order.draw(np.arange(first, first + loader.drawn, dtype=np.int64))
    return Draws(loader.drawn_between(step, step), declared)


def shared_examples(task: Task) -> tuple[int, int]:
    """How many of up to 64 validation examples are training examples.

    Windows of a text are compared by their place in it, since short ones repeat in any text; rows by what they hold.
    """
    looked, train = _spread(task.val, VALIDATION_LOOKED), _spread(task.train, TRAINING_LOOKED)
    val, n = task.val.offsets(looked), len(looked)
    places = task.train.offsets(train)
    if val is not None and places is not None:
        return int(((val >= places.min()) & (val <= places.max())).sum()), n
    rows = {row.tobytes() for row in task.train.examples(train)[0]}
    return sum(row.tobytes() in rows for row in task.val.examples(looked)[0]), n


def _spread(dataset: Dataset, most: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Ids of all examples, or of `most` spread evenly, with the first and the last."""
    n = min(most, dataset.n_examples)
    return np.linspace(0, dataset.n_examples - 1, n).round().astype(np.int64)


def attention_of(model: nn.Module, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return for each layer the attention weights, and q kᵀ before any scaling, [B, H, T, T] each."""
    assert isinstance(model, Transformer)
    weights_and_scores: list[tuple[Tensor, Tensor]] = []

    def record(module: nn.Module, inputs: tuple[Tensor, Tensor], weights: Tensor) -> None:
        q, k = inputs
        weights_and_scores.append((weights, q @ k.transpose(2, 3)))

    handles = [module.register_forward_hook(record) for module in model.attention_modules()]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    return weights_and_scores
