"""The factor on the loss in float16, without which small gradients round to zero."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

FIRST_SCALE = 2.0**16
GROWTH_STEPS = 2000


@dataclass(frozen=True)
class LossScale:
    """The factor on the loss: halved until the gradient is finite, doubled after many steps without that.

    Micikevicius et al. 2018, "Mixed precision training", section 3.2; the numbers are those of torch.amp.GradScaler.
    Gradients are divided by it again. It is a power of two, so that is exact. steps: since it last changed.
    """

    value: float = FIRST_SCALE
    steps: int = 0

    def should_shrink(self, loss: float, grad_norm: float) -> bool:
        """Return whether the gradient overflowed and may be finite with a smaller scale."""
        return self.value > 1.0 and math.isfinite(loss) and not math.isfinite(grad_norm)

    def halved(self) -> "LossScale":
        """Return half the scale, after an overflow."""
        return LossScale(self.value / 2)

    def after_step(self) -> "LossScale":
        """Return the scale after a step without overflow: doubled after GROWTH_STEPS of them."""
        steps = self.steps + 1
        return LossScale(self.value * 2) if steps >= GROWTH_STEPS else LossScale(self.value, steps)


def scaled_backward(
    backward: Callable[[float], tuple[float, float]], model: nn.Module, scale: LossScale | None
) -> tuple[float, float, LossScale | None]:
    """Compute the gradients of `model`, again with half the scale for as long as they overflow.

    backward: scale → mean loss and gradient norm. Returns these two and the scale; without one, the factor is 1.
    """
    if scale is None:
        return *backward(1.0), None
    loss, grad_norm = backward(scale.value)
    while scale.should_shrink(loss, grad_norm):
        model.zero_grad(set_to_none=True)
        scale = scale.halved()
        loss, grad_norm = backward(scale.value)
    return loss, grad_norm, scale
