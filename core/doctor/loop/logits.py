"""The gradient of a loop's loss with respect to the logits of its model."""

from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.record import LossMeasurement
from tui_lab.core.doctor.program.tokens import logits_in

MAX_ELEMENTS = 2**26
"""Elements of all logits that are kept."""


class LogitsGradients:
    """Measures the loss of each backward call of the first updates.

    problem: why a backward call was not measured; empty if all were.
    """

    def __init__(self) -> None:
        self.measurements: list[LossMeasurement] = []
        self.problem = ""
        self._n_elements = 0
        self._x: Tensor | None = None
        self._logits: Tensor | None = None

    def called(self, x: Tensor | None, output: Any) -> None:
        """Note the input and the output of the latest call of the model."""
        try:
            logits = logits_in(output)
        except (AttributeError, KeyError, IndexError, TypeError):
            return
        if isinstance(logits, Tensor) and logits.requires_grad and logits.dim() in (2, 3):
            self._x = x
            self._logits = logits

    def measure(self, loss: Tensor, scale: float, line: str, update: int, targets: Tensor | None) -> None:
        """Measure `loss`, which is about to be backpropagated and was multiplied by `scale`."""
        logits = self._logits
        if logits is None or not loss.requires_grad or loss is logits:
            return
        if self._n_elements + 2 * logits.numel() > MAX_ELEMENTS:
            self.problem = "the logits are too large to be kept"
            return
        try:
            (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)
        except RuntimeError as error:  # Compiled code frees its buffers after one backward pass.
            self.problem = f"the gradient of the logits could not be computed: {str(error).splitlines()[0]}"
            return
        if gradient is None:
            return
        self._n_elements += 2 * logits.numel()
        self.measurements.append(
            LossMeasurement(
                x=None if self._x is None else self._x.detach().clone(),
                logits=logits.detach().clone(),
                gradient=gradient.detach() / scale,
                scale=scale,
                line=line,
                update=update,
                targets=None if targets is None else targets.detach().clone(),
            )
        )

    def release(self) -> None:
        """Keep no tensor of the loop alive."""
        self._x = None
        self._logits = None
