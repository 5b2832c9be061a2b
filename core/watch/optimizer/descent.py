"""The learning rate of plain gradient descent, as a change of weights shows it."""

import math

import torch
from torch import Tensor

SAME_DIRECTION = 1e-3
"""Relative difference up to which a change is a multiple of the gradient, besides the rounding of the weights."""
CLEAR = 4.0
"""Size of a change, in units of the rounding of the weights, from which its direction is known."""


def rounding_of(weights: Tensor, dtype: torch.dtype) -> float:
    """Return the norm of what rounding may add to new weights: half of the last digit of each at most."""
    return 0.5 * float((torch.finfo(dtype).eps * weights).norm())


def descent_rate(change: Tensor, gradient: Tensor, rounding: float) -> float | None:
    """Return r if the change is −r times the gradient, up to the rounding of the weights; None if it is not."""
    square = float(gradient.dot(gradient))
    if not square or not math.isfinite(square):
        return None
    rate = -float(change.dot(gradient)) / square
    size = float(change.norm())
    remainder = float((change + rate * gradient).norm())
    is_multiple = size > CLEAR * rounding and remainder <= SAME_DIRECTION * size + rounding
    return rate if is_multiple and rate else None
