"""The least loss that a softmax before the cross-entropy leaves. Needs no torch, so a watcher may ask for it."""

import math


def floor(n_vocab: int) -> float:
    """ln(1 + (V − 1) / e): probabilities read as logits are at best 1 for the right token, 0 for the V − 1 others."""
    return math.log(1 + (n_vocab - 1) / math.e)
