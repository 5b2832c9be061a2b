"""Lets batch normalization normalize as in training while the rest of a model is in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Normalize with the statistics of the batch, and leave the running ones as they are.

    Running statistics of a few updates lag behind the weights, so that the loss in evaluation mode may rise while the
    loss that is trained falls.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    norms = [norm for norm in norms if not norm.training]
    for norm in norms:
        norm.training = True
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = False
            norm.track_running_stats = True
