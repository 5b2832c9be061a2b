"""Does the loss start near ln V, that of a uniform guess? Cost: two forward passes."""

import math
from collections.abc import Iterator

import torch

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import Target

MAX_EXCESS = 1.0
"""Nats above ln V. Logits of standard deviation σ cost σ² / 2 nats, so this is σ = 1.4. Karpathy's recipe (2019),
"verify loss @ init", asks for ln V; common initializations stay within 0.5."""


def check(target: Target) -> Iterator[Finding]:
    if not target.untrained:
        raise NotJudged("the model is already trained")
    with target.evaluating(), torch.no_grad():
        n_vocab = target.logits_of(target.probe.batch).shape[2]
    loss = target.plain_loss()
    uniform = math.log(n_vocab)
    if loss > uniform + MAX_EXCESS:
        yield Finding(
            code="initial_loss",
            title=f"The untrained model is confidently wrong: loss {loss:.2f}; a uniform guess gives {uniform:.2f}.",
            evidence=f"cross-entropy {loss:.3f} before training; ln V = ln {n_vocab:,} = {uniform:.3f}",
            why="The first steps only undo the initial scale, and saturated softmaxes pass little gradient.",
            fix="Use smaller initial weights: standard deviation 0.02 for embeddings and head (Radford et al. 2018), "
            "Glorot or Kaiming for the rest.",
            explains=("missing_gradient", "gradient_flow", "cannot_overfit", "lr_too_high", "lr_too_low"),
        )
