"""Do the units of the feed-forward layers ever fire? Cost: one forward pass."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import Probe, Subject

DEAD_SHARE = 0.9
"""Of a layer's units. At a good start half of all ReLUs fire for a token, and over tens of tokens nearly all do."""


def dead_shares(model: nn.Module, run: Any) -> dict[str, float]:
    """For each linear map fed by a ReLU (an input without negatives, with zeros): the share of units always zero."""
    found: dict[str, float] = {}

    def watch(name: str) -> Any:
        def look(module: nn.Module, inputs: Any) -> None:
            if not inputs or not isinstance(inputs[0], Tensor) or not inputs[0].is_floating_point():
                return
            h = inputs[0].detach().flatten(0, -2)
            if bool((h >= 0).all()) and bool((h == 0).any()):
                found[name] = float((h == 0).all(dim=0).float().mean())

        return look

    linear = [(n, m) for n, m in model.named_modules() if isinstance(getattr(m, "weight", None), Tensor)
              and m.weight.dim() == 2 and not isinstance(m, nn.Embedding)]  # fmt: skip
    handles = [module.register_forward_pre_hook(watch(name)) for name, module in linear]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    with subject.evaluating(), torch.no_grad():
        shares = dead_shares(subject.model, lambda: subject.logits(probe.x))
    dead = {name: share for name, share in shares.items() if share >= DEAD_SHARE}
    if dead:
        name, share = max(dead.items(), key=lambda item: item[1])
        yield Finding(
            "dead_relus",
            f"{share:.0%} of the units before {name} never fire.",
            "; ".join(f"{n} {s:.0%}" for n, s in list(dead.items())[:6]),
            "A ReLU that is zero for every token has no gradient and never comes back.",
            "Begin biases at zero and weights at Glorot's or Kaiming's scale; a lower rate if units die later.",
            explains=("missing_gradient", "gradient_flow", "cannot_overfit"),
        )
