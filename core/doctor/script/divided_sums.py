"""A loss that is a sum over targets, divided by a number that the script counted before the model's call.

transformers' Trainer divides so, by the counted targets of the whole update. On some rows of a batch, that number would
still be the one of all rows, and the loss too small.
"""

from torch import Tensor

from tui_lab.core.doctor.script.token_form import Targets

DIVIDED = 0.5
"""Ratio of the loss to the sum, below which the sum was divided."""


def n_divided(targets: Targets | None) -> int:
    """Return how many targets a step's loss sums before it is divided; 0 for any other loss."""
    if targets is None or targets.ratio is None or targets.options.get("reduction") != "sum":
        return 0
    return n_counted(targets.y, targets.ignored) if 0 < targets.ratio < DIVIDED else 0


def n_counted(y: Tensor, ignored: int) -> int:
    """Return the number of targets that are not ignored."""
    return int((y != ignored).sum())
