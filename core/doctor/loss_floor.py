"""The lowest loss that a softmax before the cross-entropy allows. Needs no torch, so monitors can use it."""

import math


def floor(n_vocab: int) -> float:
    """Return ln(1 + (V − 1) / e): read as logits, the best probabilities are 1 for the target and 0 for the others."""
    return math.log(1 + (n_vocab - 1) / math.e)
