"""What the doctor diagnoses: a training run in parts, from a config or from user code."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.user_code.external_model import logits_of

Pair = tuple[Tensor, Tensor]
LossFunction = Callable[[nn.Module, Tensor, Tensor], Tensor]
Update = Callable[[nn.Module, Sequence[Optimizer], Tensor, Tensor], object]

PROBE_ROWS = 3
PROBE_TOKENS = 16
MAX_CALLS = 33
"""Updates to wait for a step: more than any gradient accumulation over calls that the doctor supports."""


@dataclass(frozen=True)
class Draws:
    """The examples that a step drew, and those that its order declares. Both: ids [B]."""

    drawn: np.ndarray[Any, Any]
    declared: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Probe:
    """A small part of the first batches, x and y [b, t]: enough for most checks, and cheap with a large vocabulary."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Target:
    """A training run that checks can execute in parts. None means unknown; a check that needs it is skipped.

    model: ids [B, T] → logits [B, T, V].
    batch: step → x and y, int64 [B, T].
    loss_function: (model, x, y) → the mean loss that is trained on; None: torch's cross-entropy is assumed.
    update: makes one update of the given model and optimizers on x and y, as the training does.
    ignored: the target that the loss skips.
    varies: whether `batch` can return more than one batch.
    n_vocab: the tokenizer's vocabulary size.
    rule: x → the targets that the task defines, `ignored` where it defines none, UNKNOWN where x does not determine it.
    pinned: how many examples are meant to be repeated; 0: none.
    draws: step → the examples that it drew and those that it should draw.
    validation: () → how many of how many validation examples are training examples.
    attention: (model, x) → for each layer the attention weights and the scores q kᵀ before scaling, [B, H, T, T].
    d_head: the size of an attention head.
    untied: whether no two modules may share parameters.
    dropout: the dropout rate that is meant to act in training.
    untrained: whether the model still has its initial weights.
    causal: whether a position may see only itself and earlier ones.
    show: token id → text.
    """

    model: nn.Module
    optimizers: Sequence[Optimizer]
    batch: Callable[[int], Pair]
    loss_function: LossFunction | None
    update: Update
    ignored: int
    varies: bool = True
    n_vocab: int | None = None
    rule: Callable[[Tensor], Tensor] | None = None
    pinned: int | None = None
    draws: Callable[[int], Draws] | None = None
    validation: Callable[[], tuple[int, int]] | None = None
    attention: Callable[[nn.Module, Tensor], list[tuple[Tensor, Tensor]]] | None = None
    d_head: int | None = None
    untied: bool | None = None
    dropout: float | None = None
    untrained: bool = True
    causal: bool = True
    show: Callable[[int], str] = str
    seed: int = 0

    @cached_property
    def probe(self) -> Probe:
        """Rows of the first steps, cut to PROBE_TOKENS where the model accepts shorter rows and counted targets remain.

        Propagates exceptions raised by `batch`.
        """
        pairs = [self.batch(step) for step in range(PROBE_ROWS if self.varies else 1)]
        x, y = (torch.cat([pair[i][:PROBE_ROWS] for pair in pairs])[:PROBE_ROWS].to(self.device) for i in (0, 1))
        # Contiguous, since a model or loss may call view(-1) on its arguments.
        short_x = x[:, :PROBE_TOKENS].contiguous()
        short_y = y[:, :PROBE_TOKENS].contiguous()
        if x.shape[1] <= PROBE_TOKENS or not (short_y != self.ignored).any():
            return Probe(x, y)
        try:
            with self.evaluating(), torch.no_grad():
                self.logits(short_x)
        except Exception:  # The model accepts rows of one length only.
            return Probe(x, y)
        return Probe(short_x, short_y)

    def fresh(self) -> "Target":
        """Return a copy that trials may change; its optimizers hold the parameters of the copied model."""
        memo: dict[int, Any] = {}
        model, optimizers = copy.deepcopy((self.model, list(self.optimizers)), memo)
        for own, other in zip(self.optimizers, optimizers, strict=True):
            # torch copies only groups and state. A callable attribute may be a scheduler's, bound to the original.
            for name, value in vars(own).items():
                if name not in vars(other) and not callable(value):
                    setattr(other, name, copy.deepcopy(value, memo))
        fresh = replace(self, model=model, optimizers=optimizers)
        if "probe" in vars(self):
            vars(fresh)["probe"] = self.probe
        return fresh

    @property
    def device(self) -> torch.device:
        """The device of the first parameter."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def logits(self, x: Tensor) -> Tensor:
        """Return logits [B, T, V] with the target's seed, in the model's present mode."""
        torch.manual_seed(self.seed)
        return logits_of(self.model, x)

    def plain_loss(self, x: Tensor, y: Tensor) -> float:
        """Return the mean cross-entropy in evaluation mode, whatever the run's own loss is."""
        with self.evaluating(), torch.no_grad():
            return float(mean_cross_entropy(self.logits(x), y, self.ignored))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss that is trained on, with the target's seed."""
        torch.manual_seed(self.seed)
        if self.loss_function is None:
            return mean_cross_entropy(logits_of(self.model, x), y, self.ignored)
        return self.loss_function(self.model, x, y)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the model into evaluation mode, and restore its mode afterwards."""
        training = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(training)

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of every parameter group."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr


def mean_cross_entropy(logits: Tensor, y: Tensor, ignored: int) -> Tensor:
    """Return the mean cross-entropy of logits [B, T, V] over the targets y [B, T] that are not `ignored`."""
    return cross_entropy_sum(logits.float(), y, ignored) / (y != ignored).sum().clamp(min=1)
