"""Do the units of the feed-forward layers ever fire? Cost: one forward pass."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.program.target import Target

DEAD_SHARE = 0.9
"""Of a layer's units. After a good initialization half of all ReLUs fire for a token, and nearly all fire for some."""


def dead_shares(model: nn.Module, run: Callable[[], object]) -> dict[str, float]:
    """Return the fraction of units that are always zero in `run`, by the name of the layer after them.

    Such a layer is linear or a convolution, and its input comes from a ReLU: it depends on parameters, has no negative
    value and at least one zero. Data may be like that, too, but depend on no parameter; gradients must be on.
    """
    shares: dict[str, float] = {}

    def measure(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            if not inputs or not isinstance(inputs[0], Tensor) or not inputs[0].requires_grad:
                return
            h = inputs[0].detach()
            if h.dim() < 2:  # One example without an axis of rows.
                h = h[None]
            if isinstance(module, nn.modules.conv._ConvNd):  # A convolution, whose units are the channels [B, C, …].
                h = h.transpose(1, -1)
            h = h.flatten(0, -2)
            if bool((h >= 0).all()) and bool((h == 0).any()):
                shares[name] = float((h == 0).all(dim=0).float().mean())

        return hook

    handles = [
        module.register_forward_pre_hook(measure(name))
        for name, module in model.named_modules()
        if isinstance(getattr(module, "weight", None), Tensor)
        and (isinstance(module, nn.modules.conv._ConvNd) or module.weight.dim() == 2)
        and not isinstance(module, nn.Embedding)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return shares


def check(target: Target) -> Iterator[Finding]:
    with target.evaluating(), torch.enable_grad():
        shares = dead_shares(target.model, lambda: target.output(target.probe.batch))
    if not shares:
        raise NotApplicable("no linear layer or convolution gets its input from a ReLU")
    dead = {name: share for name, share in shares.items() if share >= DEAD_SHARE}
    if dead:
        name, share = max(dead.items(), key=lambda item: item[1])
        yield Finding(
            code="dead_relus",
            title=f"{share:.0%} of the units before {name} never fire.",
            evidence="; ".join(f"{name} {share:.0%}" for name, share in list(dead.items())[:6]),
            why="A ReLU that is zero for every token has no gradient and never recovers.",
            fix="Initialize biases to zero and weights with Glorot or Kaiming. If units die during training, lower the "
            "learning rate.",
            explains=("missing_gradient", "gradient_flow", "cannot_overfit"),
        )
