"""What the model makes of one example: the loss of every cell, the likeliest tokens there, what each head looks at."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.model import Named
from tui_lab.core.user_code.external_model import ExternalModel
from tui_lab.data.dataset import IGNORED

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CellLosses:
    """For one example of T tokens. losses: nats [T], NaN where the target is ignored; top: ids [T, k], the
    likeliest first; probabilities: [T, k]."""

    losses: Floats
    top: Ids
    probabilities: Floats


@torch.no_grad()
def cell_losses(model: nn.Module, x: Ids, y: Ids, k: int = 5) -> CellLosses:
    """x, y: [T]. The model must be in evaluation mode."""
    device = next(model.parameters()).device
    logits = model(torch.from_numpy(x)[None].to(device).contiguous())[0].float()  # [T, V]
    targets = torch.from_numpy(y).to(device)
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")  # [T]
    losses[targets == IGNORED] = torch.nan
    top = logits.softmax(dim=-1).topk(min(k, logits.shape[-1]))  # [T, k]
    return CellLosses(losses.cpu().numpy(), top.indices.cpu().numpy(), top.values.cpu().numpy())


MOST_WEIGHTS = 2**24
"""Of all maps together: 64 MiB. Larger ones are kept in blocks of positions."""


class _Maps(Named):
    """Takes the model's intermediates and keeps the attention alone, [H, n, n] a layer, in blocks: what a deep model
    names of a long row would not fit the memory beside a training."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self._block = block

    def __setitem__(self, name: str, value: Tensor) -> None:
        if name.endswith(".attention"):
            short = -value.shape[-1] % self._block
            padded = F.pad(value[0].float(), (0, short, 0, short))
            super().__setitem__(name, F.max_pool2d(padded, self._block) if self._block > 1 else padded)

    def __ior__(self, other: object) -> "_Maps":  # type: ignore[override,misc]
        return self


@torch.no_grad()
def attention_maps(model: nn.Module, x: Ids, most: int = MOST_WEIGHTS) -> AttentionMaps | None:
    """The weights of every head for one example x: [T]. The model must be in evaluation mode; None for a model of
    somebody else, which names no intermediates."""
    if isinstance(model, ExternalModel):
        return None
    T, config = len(x), model.config
    block = 1
    while config.n_layers * config.n_heads * math.ceil(T / block) ** 2 > most:  # type: ignore[union-attr,operator]
        block *= 2
    named = _Maps(block)
    model.hidden(torch.from_numpy(x)[None].to(next(model.parameters()).device), named=named)  # type: ignore[operator]
    weights = torch.stack(list(named.values())).cpu().numpy()  # [L, H, n, n]
    weights.flags.writeable = False
    return AttentionMaps(weights, T, block)
