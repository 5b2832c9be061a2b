"""Figures that are computed from losses: the running mean over steps, and the perplexity."""

import math

LOSS_EMA = 0.9
"""The weight of the past in the running mean of the loss."""
LARGEST_EXPONENT = 700.0
"""exp of more than 709.78 is not a float64 any more."""


def running_mean(before: float | None, loss: float, past: float = LOSS_EMA) -> float:
    """Return the mean after one more loss. past: the weight of `before`, which is None or NaN at the start."""
    return loss if before is None or math.isnan(before) else past * before + (1 - past) * loss


def perplexity(loss: float) -> float:
    """Return exp(loss) of a loss in nats per target, which is cut at `LARGEST_EXPONENT`."""
    return math.exp(min(loss, LARGEST_EXPONENT))
