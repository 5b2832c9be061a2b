"""What is examined: one training in parts, whoever wrote them."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum
from tui_lab.core.user_code.external_model import logits_of

Pair = tuple[Tensor, Tensor]
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
Update = Callable[[nn.Module, Sequence[Optimizer], Tensor, Tensor], object]


@dataclass(frozen=True)
class Draws:
    """Which examples a step drew, and which it says it draws. drawn, declared: ids [B]."""

    drawn: np.ndarray[Any, Any]
    declared: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Subject:
    """`batch(step)` gives x and y, int64 [B, T]. What is None is not known, and its checks are skipped."""

    model: nn.Module
    optimizers: Sequence[Optimizer]
    batch: Callable[[int], Pair]
    objective: Objective | None
    """(model, x, y) → the mean loss that is trained on. None: not known, so the plain cross-entropy is taken."""
    update: Update
    """Makes one update of the model on x and y, as the training does."""
    ignored: int
    varies: bool = True
    """Whether `batch` can give other batches than one."""
    n_vocab: int | None = None
    """Of the tokenizer."""
    rule: Callable[[Tensor], Tensor] | None = None
    """x → the targets that the task means, `ignored` where it means none, UNKNOWN where x does not tell."""
    pinned: int | None = None
    """How many datapoints are meant to be drawn over and over; 0: none are pinned."""
    draws: Callable[[int], Draws] | None = None
    validation: Callable[[], tuple[int, int]] | None = None
    """→ how many of so many validation examples are training examples."""
    attention: Callable[[nn.Module, Tensor], list[tuple[Tensor, Tensor]]] | None = None
    """(model, x) → for each layer the attention weights, and the scores q kᵀ before any scaling, [B, H, T, T]."""
    d_head: int | None = None
    untied: bool | None = None
    dropout: float | None = None
    """The rate that is meant to act in training."""
    untrained: bool = True
    causal: bool = True
    show: Callable[[int], str] = str
    seed: int = 0

    def fresh(self) -> "Subject":
        """A copy of its own: trials leave the original as it was. Optimizers keep to the copy's parameters."""
        memo: dict[int, Any] = {}
        model, optimizers = copy.deepcopy((self.model, list(self.optimizers)), memo)
        for own, other in zip(self.optimizers, optimizers, strict=True):
            # torch copies groups and state alone; what is callable may be a scheduler's, bound to the original.
            for name, value in vars(own).items():
                if name not in vars(other) and not callable(value):
                    setattr(other, name, copy.deepcopy(value, memo))
        return replace(self, model=model, optimizers=optimizers)

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def logits(self, x: Tensor) -> Tensor:
        """[B, T, V], with the seed of the trial, in the mode the model is in."""
        torch.manual_seed(self.seed)
        return logits_of(self.model, x)

    def reference_loss(self, x: Tensor, y: Tensor) -> float:
        """The mean cross-entropy in evaluation mode, whatever the training's own loss is."""
        with self.evaluating(), torch.no_grad():
            return float(mean_cross_entropy(self.logits(x), y, self.ignored))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss that is trained on, with the seed of the trial."""
        torch.manual_seed(self.seed)
        if self.objective is None:
            return mean_cross_entropy(logits_of(self.model, x), y, self.ignored)
        return self.objective(self.model, x, y)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """The model in evaluation mode, and back."""
        was = self.model.training
        self.model.eval()
        try:
            yield
        finally:
            self.model.train(was)

    def set_lr(self, lr: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr


def mean_cross_entropy(logits: Tensor, y: Tensor, ignored: int) -> Tensor:
    """logits [B, T, V], y [B, T] → the mean over the targets that are not ignored."""
    return cross_entropy_sum(logits.float(), y, ignored) / (y != ignored).sum().clamp(min=1)


@dataclass(frozen=True)
class Probe:
    """A small piece of the first batch: x, y [b, t]. Enough to tell, cheap with a large vocabulary."""

    x: Tensor
    y: Tensor


ROWS, TOKENS = 3, 16


def probe(subject: Subject) -> Probe:
    """Rows of the first steps, cut to the first TOKENS positions where the model takes shorter rows and targets remain.

    Raises Skip's caller's errors as they are.
    """
    pairs = [subject.batch(step) for step in range(ROWS if subject.varies else 1)]
    x, y = (torch.cat([pair[i][:ROWS] for pair in pairs])[:ROWS] for i in (0, 1))
    x, y = x.to(subject.device), y.to(subject.device)
    # Contiguous, since a model or loss may call view(-1) on what it gets.
    short = x[:, :TOKENS].contiguous(), y[:, :TOKENS].contiguous()
    if x.shape[1] <= TOKENS or not (short[1] != subject.ignored).any():
        return Probe(x, y)
    try:
        with subject.evaluating(), torch.no_grad():
            subject.logits(short[0])
    except Exception:  # A model of fixed length.
        return Probe(x, y)
    return Probe(*short)
