"""What the model makes of one example: the loss of every cell and the likeliest tokens there."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from data.dataset import IGNORED

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
    logits = model(torch.from_numpy(x)[None].to(device))[0].float()  # [T, V]
    targets = torch.from_numpy(y).to(device)
    losses = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")  # [T]
    losses[targets == IGNORED] = torch.nan
    top = logits.softmax(dim=-1).topk(min(k, logits.shape[-1]))  # [T, k]
    return CellLosses(losses.cpu().numpy(), top.indices.cpu().numpy(), top.values.cpu().numpy())
