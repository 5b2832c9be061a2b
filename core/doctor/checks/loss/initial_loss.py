"""Does the loss start near ln V, that of a uniform guess? Cost: two forward passes."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.trained_targets import trained_batch, trained_targets
from tui_lab.core.doctor.program.target import Target, mean_cross_entropy
from tui_lab.core.doctor.program.tokens import logits_in

MAX_EXCESS = 1.0
"""Nats above ln V. Logits of standard deviation σ cost σ² / 2 nats, so this is σ = 1.4. Karpathy's recipe (2019),
"verify loss @ init", asks for ln V; common initializations stay within 0.5."""
CLEAR_EXCESS = 3.0
"""Nats above ln V that no healthy program reaches: of 100 public designs, T5, Mamba and makemore's bag of words start 1
nat above. Embeddings N(0, 1) with a tied head start tens of nats above."""


def check(target: Target) -> Iterator[Finding]:
    if not target.untrained:
        raise NotJudged("the model is already trained")
    with target.evaluating(), torch.no_grad():
        if target.tokens is not None:
            n_classes = target.logits_of(target.probe.batch).shape[2]
            loss = _of_tokens(target)
            symbol = "V"
        else:
            loss, n_classes = _of_classes(target)
            symbol = "C"
    if not math.isfinite(loss):
        raise NotJudged("the loss of the untrained model is not finite")
    uniform = math.log(n_classes)
    if loss > uniform + MAX_EXCESS:
        yield Finding(
            code="initial_loss",
            kind="finding" if loss > uniform + CLEAR_EXCESS else "hint",
            title=f"The untrained model is confidently wrong: loss {loss:.2f}; a uniform guess gives {uniform:.2f}.",
            evidence=f"cross-entropy {loss:.3f} before training; ln {symbol} = ln {n_classes:,} = {uniform:.3f}",
            why="The first steps only undo the initial scale, and saturated softmaxes pass little gradient.",
            fix="Use smaller initial weights: standard deviation 0.02 for embeddings and head (Radford et al. 2018), "
            "Glorot or Kaiming for the rest."
            if target.tokens
            else "Scale the inputs to mean 0 and standard deviation 1, and use smaller initial weights in the last "
            "layer (Glorot or Kaiming).",
            explains=("missing_gradient", "gradient_flow", "cannot_overfit", "lr_too_high", "lr_too_low"),
        )


def _of_tokens(target: Target) -> float:
    """Return the mean cross-entropy of the targets that the loss trains, which it may have shifted itself."""
    if target.loss_function is None:
        return target.plain_loss()
    trained = trained_targets(target)
    if target.tokens is not None and target.tokens.y is None:  # They are known from the gradient of the loss.
        one = trained.batches[0]
    else:
        one = trained_batch(target, target.probe.batch, trained.view_shift or 0)
    y = one.trained.to(target.device)
    return float(mean_cross_entropy(target.logits_of(one.batch)[: len(y)], y, target.ignored))


def _of_classes(target: Target) -> tuple[float, int]:
    """Return the cross-entropy of a classifier's first rows, and its number of classes. Raises NotApplicable."""
    scores = logits_in(target.output(target.probe.batch))
    y = target.targets(target.probe.batch) if target.targets else None
    if target.targets is None:
        raise NotApplicable("which part of the batch is the class of each row is known only for a Case")
    if not isinstance(y, Tensor) or y.dim() != 1 or y.is_floating_point() or y.dtype is torch.bool:
        raise NotApplicable("the model does not return scores of classes")
    if scores.dim() != 2 or len(scores) != len(y) or scores.shape[1] < 2 or int(y.max()) >= scores.shape[1]:
        raise NotApplicable("the model does not return scores of classes")
    loss = F.cross_entropy(scores.float(), y.long().to(scores.device), ignore_index=target.ignored)
    return float(loss), scores.shape[1]
