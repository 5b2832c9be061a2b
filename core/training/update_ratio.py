"""How far an update moves the weights, relative to their size."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

EVERY = 10
"""Updates between measurements: a copy of the weights at every step would cost the small models a few percent."""


@torch.no_grad()
def watch_update(model: nn.Module) -> Callable[[], float]:
    """Call it before an update; what it returns, called after, gives ‖Δw‖ / ‖w‖ over the layers' matrices.

    The embeddings and the head are left out: most of their rows do not occur in a batch. About 1e-3 is healthy for
    Adam (Karpathy 2022, "Building makemore" part 3); far below it nothing is learned, far above it nothing is kept.
    """
    weights = [p for name, p in model.named_parameters() if p.dim() == 2 and name.startswith("layers.")]
    before = [p.detach().clone() for p in weights]

    @torch.no_grad()
    def ratio() -> float:
        size = _norm(before)
        return float(_norm([p - old for p, old in zip(weights, before, strict=True)]) / size) if size > 0 else 0.0

    return ratio


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(tensors)
