"""Positions that a masked language model gets as an argument, since it predicts only what is masked there."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MIN_MASKED = 0.5
"""Share of the positions that hold one id, the mask: 80 % of them in BERT (Devlin et al. 2019, section 3.1)."""


@dataclass(frozen=True)
class MaskedPlaces:
    """positions: int64 [B, n] among T, on the CPU; -1 for the padding of a row with fewer targets."""

    positions: Tensor
    T: int

    def spread(self, values: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """Return [R, T, …] with the values [R, n, …] of the first R rows at their positions, and `fill` elsewhere."""
        spread = np.full((len(values), self.T, *values.shape[2:]), fill, values.dtype)
        rows, numbers = (self.positions[: len(values)] >= 0).nonzero(as_tuple=True)
        spread[rows.numpy(), self.positions[rows, numbers].numpy()] = values[rows.numpy(), numbers.numpy()]
        return spread


@torch.no_grad()
def masked_places(x: Tensor, targets: Tensor, arguments: Iterable[Tensor]) -> MaskedPlaces | None:
    """Return where the targets are among ids x [B, T], if one of the arguments of the model has them."""
    if targets.is_floating_point() or x.dim() != 2:
        return None
    B, T = x.shape
    for argument in arguments:
        if len(argument) == B and argument.numel() == targets.numel() and 0 < argument.shape[1] < T:
            positions = argument.detach().to("cpu", torch.int64)
            if int(positions.min()) >= 0 and int(positions.max()) < T:
                positions = _without_padding(positions, T)
                if _are_masked(x.detach().to("cpu", torch.int64), positions):
                    return MaskedPlaces(positions, T)
    return None


def _without_padding(positions: Tensor, T: int) -> Tensor:
    """Return positions with -1 for one that a row repeats, as rows with fewer targets do with the first one."""
    n = torch.zeros(len(positions), T, dtype=torch.int64).scatter_add(1, positions, torch.ones_like(positions))
    is_padding = (n > 1).any(0)
    return positions.masked_fill(is_padding[positions], -1)


def _are_masked(x: Tensor, positions: Tensor) -> bool:
    is_target = positions >= 0
    if not bool(is_target.any()):
        return False
    _, counts = torch.unique(x.gather(1, positions.clamp(min=0))[is_target], return_counts=True)
    return int(counts.max()) >= MIN_MASKED * int(is_target.sum())
