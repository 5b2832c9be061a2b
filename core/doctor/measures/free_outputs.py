"""How far can a loss fall if the model's outputs are free? Many losses have a high minimum, whatever the model is.

A cross-entropy with soft targets does not fall below their entropy, as that of C51 (Bellemare et al. 2017), and the
objective of PPO (Schulman et al. 2017) not below that of clipped ratios. Cost: some hundred evaluations of the loss,
without the model.
"""

import math
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.measures.loss_forms import are_probabilities
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.training.optim_without_dynamo import Adam

UPDATES = 100
RATES = (0.01, 0.1, 1.0)
"""Of Adam, which changes each output by about as much in each update."""
LOWEST_PROBABILITY = 1e-6


def lowest_loss(target: Target, batch: Batch) -> float | None:
    """Return the lowest loss of a batch that free outputs reach; None if the loss cannot be computed from outputs.

    Outputs that are probabilities or between 0 and 1 stay so.
    """
    if target.output_loss is None:
        return None
    with target.evaluating(), torch.no_grad():
        output = target.output(batch)
    losses: list[float] = []
    try:
        for rate in RATES:
            losses += _losses(target, batch, output, rate)
    except Exception:  # The loss may be made for the outputs of this model only.
        return None
    return min(filter(math.isfinite, losses), default=None)


def _losses(target: Target, batch: Batch, output: Any, rate: float) -> list[float]:
    """Return the losses while Adam changes the outputs at a rate."""
    assert target.output_loss is not None
    free = {id(t): _Free(t) for t in tensors_of(output) if t.is_floating_point() and t.dim()}
    parameters = [one.parameter for one in free.values()]
    optimizer = Adam(parameters, lr=rate)
    losses = []
    for _ in range(UPDATES):
        with torch.enable_grad():
            changed = mapped(output, lambda t: free[id(t)].value() if id(t) in free else t)
            loss = target.output_loss(changed, batch)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        losses.append(float(loss.detach()))
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return losses


class _Free:
    """A tensor of an output that may change within its range."""

    def __init__(self, tensor: Tensor) -> None:
        values = tensor.detach().float()
        self._dtype = tensor.dtype
        self._is_distribution = are_probabilities(values)
        self._is_bounded = bool(((values >= 0) & (values <= 1)).all())
        if self._is_distribution:
            values = values.clamp(min=LOWEST_PROBABILITY).log()
        elif self._is_bounded:
            values = values.clamp(LOWEST_PROBABILITY, 1 - LOWEST_PROBABILITY).logit()
        self.parameter = values.clone().requires_grad_()

    def value(self) -> Tensor:
        if self._is_distribution:
            return self.parameter.softmax(dim=-1).to(self._dtype)
        return (self.parameter.sigmoid() if self._is_bounded else self.parameter * 1.0).to(self._dtype)
