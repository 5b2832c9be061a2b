"""Looks into a model at one row of a batch, one look at a time: for the app, and for the process of a script."""

import numpy as np
from torch import nn

from tui_lab.core.commands import Look, Replacement
from tui_lab.core.inference.example import Ids
from tui_lab.core.inside.ablation import ablate, n_variants
from tui_lab.core.inside.lens import logit_lens
from tui_lab.core.inside.norms import stream_norms
from tui_lab.core.inside.results import LookResult

MAX_OTHERS = 3
"""Further rows of the batch for an ablation, at most."""
MOST_LOGITS_OF_ABLATION = 2**28
"""Logits to compute for the further rows, at most, unless there is only one such row."""


def look_at(
    model: nn.Module, look: Look, x: Ids, y: Ids, row: int, *, n_vocab: int, how: Replacement = "zero"
) -> LookResult:
    """Return what was measured of a row, or why it was not. x, y: [R, T]. The model must be in evaluation mode.

    n_vocab: the number of logits of a position. how: to ablate, which also measures the rows after it, as many as
    `MAX_OTHERS` and `MOST_LOGITS_OF_ABLATION` allow.
    """
    match look:
        case "lens":
            return logit_lens(model, x[row], y[row])
        case "norms":
            return stream_norms(model, x[row])
        case "ablation":
            n_logits = n_variants(model) * x.shape[1] * n_vocab
            n_others = min(MAX_OTHERS, max(1, MOST_LOGITS_OF_ABLATION // max(1, n_logits)), len(x) - 1)
            chosen = np.arange(row, row + 1 + n_others) % len(x)
            return ablate(model, x[chosen], y[chosen], how)
