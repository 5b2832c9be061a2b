"""Looks into a model at one example: the loss and the likeliest tokens at each position, and the attention weights."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CellLosses:
    """One example of T tokens.

    losses: nats [T], NaN where the target is ignored. top: ids [T, k], the likeliest first. probabilities: [T, k].
    """

    losses: Floats
    top: Ids
    probabilities: Floats


MOST_LOGITS = 2**24
"""Logits of one forward pass, at most: 64 MiB."""


def cell_losses(model: nn.Module, x: Ids, y: Ids, k: int = 5) -> CellLosses:
    """Return the loss and the likeliest tokens at each position: x, y [T]. The model must be in evaluation mode."""
    return row_losses(model, x[None], y[None], k)[0]


@torch.no_grad()
def row_losses(model: nn.Module, x: Ids, y: Ids, k: int = 5) -> list[CellLosses]:
    """Return for each row of x, y [B, T] what `cell_losses` returns. The model must be in evaluation mode."""
    device = next(model.parameters()).device
    results: list[CellLosses] = []
    n_rows = 1
    while len(results) < len(x):
        rows = slice(len(results), len(results) + n_rows)
        logits = model(torch.from_numpy(x[rows]).to(device).contiguous()).float()  # [R, T, V]
        targets = torch.from_numpy(y[rows]).to(device)
        losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")  # [R, T]
        losses[targets == IGNORED] = torch.nan
        top = logits.softmax(dim=-1).topk(min(k, logits.shape[-1]))  # [R, T, k]
        arrays = (losses.cpu().numpy(), top.indices.cpu().numpy(), top.values.cpu().numpy())
        results += [CellLosses(*row) for row in zip(*arrays, strict=True)]
        n_rows = max(1, MOST_LOGITS // logits[0].numel())  # The size of the vocabulary is known after the first row.
    return results


MOST_WEIGHTS = 2**24
"""Attention weights of all maps together, at most: 64 MiB. Larger maps are kept in blocks of positions."""


@torch.no_grad()
def attention_maps(model: Model, x: Ids, most: int = MOST_WEIGHTS) -> AttentionMaps | None:
    """Return the attention weights of every head for one example x: [T]; None for a user model.

    The model must be in evaluation mode. Each layer's map is reduced as soon as it is there, since those of a deep
    model and a long row would not fit into memory together.
    """
    modules = model.attention_modules()
    if not modules:
        return None
    T = len(x)
    block = 1
    while model.config.n_layers * model.config.n_heads * math.ceil(T / block) ** 2 > most:
        block *= 2
    maps: list[Tensor] = []

    def record(module: nn.Module, inputs: object, weights: Tensor) -> None:
        maps.append(in_blocks(weights[0].float(), block))

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        model(torch.from_numpy(x)[None].to(next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    weights = torch.stack(maps).cpu().numpy()  # [L, H, n, n]
    weights.flags.writeable = False
    return AttentionMaps(weights, T, block)


def in_blocks(weights: Tensor, block: int) -> Tensor:
    """Return the largest weight of each block of positions: [H, T, S] → [H, ⌈T/block⌉, ⌈S/block⌉]."""
    if block == 1:
        return weights
    T, S = weights.shape[1:]
    return F.max_pool2d(F.pad(weights, (0, -S % block, 0, -T % block)), block)
