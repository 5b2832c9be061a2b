"""How many units of the feed-forward layers never fire: their share, measured while an update is made."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from tui_lab.core.model import Layer

EVERY = 50
"""Updates between measurements: units die over hundreds of updates, and each look at them costs a small model."""


def watch_units(model: nn.Module) -> Callable[[], float | None]:
    """Call it before a forward pass; what it returns, called after, gives the share of units that were zero for every
    token of the batch, over all layers; None where the model has no ReLU layers of ours."""
    dead: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        dead.append((inputs[0].detach() == 0).flatten(0, -2).all(dim=0))  # [d_ff]

    handles = [m.W_2.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, Layer)]

    def share() -> float | None:
        for handle in handles:
            handle.remove()
        return float(sum(d.float().mean() for d in dead) / len(dead)) if dead else None

    return share
