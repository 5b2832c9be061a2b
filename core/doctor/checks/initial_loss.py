"""Does the loss begin near ln V, that of a uniform guess? Cost: one forward pass."""

import math
from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject

NATS = 1.0
"""Logits of standard deviation σ cost σ² / 2 nats above ln V, so this is σ = 1.4. Karpathy's recipe (2019), "verify
loss @ init", wants ln V; common initializations stay within 0.5."""


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    if not subject.untrained:
        raise Skip("the model has been trained")
    with subject.evaluating():
        n_vocab = subject.logits(probe.x[:1]).shape[2]
    found, chance = subject.reference_loss(probe.x, probe.y), math.log(n_vocab)
    if found > chance + NATS:
        yield Finding(
            "initial_loss",
            f"The model begins sure of the wrong tokens: loss {found:.2f}, a uniform guess has {chance:.2f}.",
            f"ln V = ln {n_vocab:,} = {chance:.3f}; the untrained model's cross-entropy is {found:.3f}",
            "The first updates only undo the initial scale, and saturated softmaxes pass little gradient.",
            "Begin with smaller weights: standard deviation 0.02 for embeddings and head (Radford et al. 2018), "
            "Glorot or Kaiming for the rest.",
            explains=("missing_gradient", "gradient_flow", "cannot_overfit", "lr_too_high", "lr_too_low"),
        )
