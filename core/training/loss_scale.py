"""The factor on the loss in float16, without which small gradients round to zero."""

import math
from dataclasses import dataclass

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
        return LossScale(self.value / 2)

    def after_step(self) -> "LossScale":
        steps = self.steps + 1
        return LossScale(self.value * 2) if steps >= GROWTH_STEPS else LossScale(self.value, steps)
