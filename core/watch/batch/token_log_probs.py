"""The log-probabilities of the targets that a model returns instead of logits, as those of TRL's trainers do."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tui_lab.core.watch.batch.cells import Floats, Ids
from tui_lab.data.dataset import IGNORED

NAME = "log_probs"
"""What the output calls them, as TRL's FusedCausalLMOutput does."""


def token_log_probs(output: Any, y: Tensor | None) -> Tensor | None:
    """Return the log-probabilities [B, T-1] in what a model returned for targets y [B, T]; None if there are none."""
    if y is None or isinstance(output, Tensor) or not isinstance(output, Mapping):
        return None
    values = output.get(NAME)
    if not isinstance(values, Tensor) or not values.is_floating_point() or y.dim() != 2:
        return None
    return values.detach() if values.shape == (y.shape[0], y.shape[1] - 1) else None


def next_targets(y: Ids) -> Ids:
    """Return the target of each position, of given targets [R, T] that the model shifts: y[t + 1], the last IGNORED."""
    return np.pad(y[:, 1:], ((0, 0), (0, 1)), constant_values=IGNORED)


def token_losses(log_probs: Tensor, targets: Ids) -> Floats:
    """Return the losses [L, T] in nats of log_probs [L, T-1] for targets [L, T], NaN where the target is IGNORED."""
    losses = np.pad(-log_probs.float().cpu().numpy(), ((0, 0), (0, 1)))
    return np.where(targets == IGNORED, np.float32(np.nan), losses).astype(np.float32)
