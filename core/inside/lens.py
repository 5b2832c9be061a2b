"""The logit lens: what the model would answer if it ended after each layer (nostalgebraist 2020).

The residual stream after a layer goes through what normally follows the last layer. In our model, where a LayerNorm
comes after each residual sum (post-LN), the output of every layer is normalized already, and the lens is the head
alone: logits = out_l W + b. The embedding, which no LayerNorm follows, goes through the head as it is. In a pre-LN
model such as GPT-2 the lens is the final LayerNorm and the head, as in the source.

An early layer may hold the answer in a basis that the head cannot read; the tuned lens (Belrose et al. 2023), which
trains a linear map for each layer, would show it, and this one does not. So "the model decides in layer l" means: from
there on, in the basis of the last layer.

nostalgebraist 2020, "interpreting GPT: the logit lens", LessWrong. Belrose et al. 2023, "Eliciting latent predictions
from transformers with the tuned lens", arXiv 2303.08112.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.inference.example import MOST_LOGITS, Ids
from tui_lab.core.inside.capture import ReadOut, capture, read_out
from tui_lab.core.inside.results import LogitLens
from tui_lab.data.dataset import IGNORED

EMBEDDING = "embedding"


@torch.no_grad()
def logit_lens(model: nn.Module, x: Ids, y: Ids, k: int = 5) -> LogitLens | str:
    """Return the lens for one example, x and y [T], or why there is none. The model must be in evaluation mode."""
    device = next(model.parameters()).device
    captured = capture(model, torch.from_numpy(np.ascontiguousarray(x))[None].to(device))
    if isinstance(captured, str):
        return captured
    function = read_out(model, captured)
    if isinstance(function, str):
        return function
    targets = torch.from_numpy(np.ascontiguousarray(y)).to(device)
    k = min(k, captured.logits.shape[-1])
    n_positions = max(1, MOST_LOGITS // captured.logits.shape[-1])
    parts = [_read(function[0], stream[0], targets, k, n_positions) for stream in captured.streams]
    top, probabilities, target_probabilities, losses, ranks = (_stacked(each) for each in zip(*parts, strict=True))
    places = (EMBEDDING, *(layer.name for layer in captured.layers))
    return LogitLens(places, function[1], top, probabilities, target_probabilities, losses, ranks)


def _stacked(tensors: tuple[Tensor, ...]) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = torch.stack(tensors).cpu().numpy()
    array.flags.writeable = False
    return array


def _read(function: ReadOut, stream: Tensor, targets: Tensor, k: int, n_positions: int) -> tuple[Tensor, ...]:
    """Return top, probabilities, target probabilities, losses and ranks, [T, …] each, of one stream [T, D]."""
    chunks = []
    for h, y in zip(torch.split(stream, n_positions), torch.split(targets, n_positions), strict=True):
        logits = function(h[None])[0]  # [t, V]
        log_probabilities = logits.log_softmax(dim=-1)
        top = log_probabilities.topk(k)  # [t, k]
        losses = F.nll_loss(log_probabilities, y, ignore_index=IGNORED, reduction="none")  # [t]
        target_logits = logits.gather(1, y.clamp(min=0)[:, None])  # [t, 1]
        ranks = 1 + (logits > target_logits).sum(dim=1)  # [t]
        losses = losses.masked_fill(y == IGNORED, torch.nan)
        chunks.append((top.indices, top.values.exp(), (-losses).exp(), losses, ranks.masked_fill(y == IGNORED, 0)))
    return tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))
