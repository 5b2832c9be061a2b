"""Updates that a script makes without a torch optimizer: `p.data -= lr * p.grad`, as in many lectures and examples.

After a backward pass a few weights are kept. If they have changed at the next call of the model or the loss, the script
has made an update.
"""

import gc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.kernels.autograd_graph import graph_leaves

CLIP_EPSILON = 1e-6
"""What clip_grad_norm_ adds to the norm."""
MAX_SAMPLES = 8
"""Parameters of which weights are kept, spread over all."""
MAX_WEIGHTS = 256
"""Weights that are kept of each."""
SAME_DIRECTION = 1e-2
"""Relative difference up to which a change is a multiple of the gradient."""


class ByHand(Optimizer):
    """Stands for the optimizer that a script does not have. lr: of the latest update; 0 if it is unknown."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(list(parameters), {"lr": 0.0})


@dataclass(frozen=True)
class _Sample:
    """Some weights of a parameter and their gradient, flat, as they were after a backward pass."""

    parameter: Tensor
    weights: Tensor
    gradient: Tensor


class UpdatesByHand:
    """Call `backward` before and `after_backward` after a backward pass, `update` before each later call."""

    def __init__(self) -> None:
        self._optimizer: ByHand | None = None
        self._parameters: list[Tensor] = []
        self._samples: list[_Sample] = []
        self._coefficient = 1.0
        self._is_off = False
        self._has_updated = False

    @property
    def optimizer(self) -> ByHand | None:
        """What stands for the optimizer; None if the script has one, and before the first backward pass."""
        return self._optimizer

    def turn_off(self) -> None:
        """The script has an optimizer, or records its steps itself."""
        self._is_off = True
        self._optimizer = None
        self._parameters = []
        self._samples = []

    def backward(self, loss: Tensor) -> ByHand | None:
        """Return what stands for the optimizer if this is the first backward pass of a script without one."""
        if self._is_off or self._optimizer is not None:
            return None
        if _has_optimizer():
            self.turn_off()
            return None
        self._parameters = graph_leaves(loss)
        self._optimizer = ByHand(self._parameters) if self._parameters else None
        return self._optimizer

    def after_backward(self) -> None:
        """Keep some weights and their gradients."""
        with_gradient = [p for p in self._parameters if p.grad is not None and p.numel()]
        if not with_gradient:  # Those of another model.
            self._parameters = []
            self._optimizer = None
        every = max(1, math.ceil(len(with_gradient) / MAX_SAMPLES))
        self._coefficient = 1.0
        self._samples = [_Sample(p, _first(p), _first(p.grad)) for p in with_gradient[::every] if p.grad is not None]

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        """The gradients were scaled after the backward pass."""
        if self._samples:
            self._coefficient *= min(1.0, max_norm / (float(norm) + CLIP_EPSILON))

    def update(self) -> ByHand | None:
        """Return what stands for the optimizer if the script has made an update since the last backward pass."""
        changes = [(_first(sample.parameter) - sample.weights, sample.gradient) for sample in self._samples]
        if not any(bool(change.any()) for change, _ in changes):
            return None
        if self._optimizer is None or (not self._has_updated and _has_optimizer()):
            self.turn_off()
            return None
        self._has_updated = True
        self._optimizer.param_groups[0]["lr"] = _rate(changes, self._coefficient)
        self._samples = []
        return self._optimizer


def _has_optimizer() -> bool:
    """Whether the script has made an optimizer of torch, which may step later."""
    kinds = {type(thing) for thing in gc.get_objects()}
    return any(issubclass(kind, Optimizer) and kind is not ByHand for kind in kinds)


def _first(tensor: Tensor) -> Tensor:
    return tensor.detach().reshape(-1)[:MAX_WEIGHTS].to("cpu", torch.float64, copy=True)


def _rate(changes: Sequence[tuple[Tensor, Tensor]], coefficient: float) -> float:
    """Return the learning rate of plain gradient descent, to three digits; 0 if the changes are of another kind."""
    change = torch.cat([change for change, _ in changes])
    gradient = coefficient * torch.cat([gradient for _, gradient in changes])
    square = float(gradient.dot(gradient))
    if not square or not math.isfinite(square):
        return 0.0
    rate = -float(change.dot(gradient)) / square
    rest = float((change + rate * gradient).norm())
    return float(f"{rate:.3g}") if rate > 0 and rest <= SAME_DIRECTION * float(change.norm()) else 0.0
