"""The gradient of a loop's loss with respect to the logits of its model."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tui_lab.core.doctor.loop.criterion_inputs import is_reshaped
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
        self._handle: RemovableHandle | None = None
        """Of the hook that receives the next gradient."""

    def called(self, x: Tensor | None, output: Any) -> None:
        """Note the input and the output of the latest call of the model."""
        try:
            logits = logits_in(output)
        except (AttributeError, KeyError, IndexError, TypeError):
            return
        if isinstance(logits, Tensor) and logits.requires_grad and logits.dim() in (2, 3):
            self._x = x
            self._logits = logits

    def measure(
        self, loss: Tensor, value: float, scale: float, line: str, update: int, compared: Sequence[tuple[Any, Tensor]]
    ) -> None:
        """Measure `loss`, which is about to be backpropagated, in that backward pass.

        value: of the loss before it was multiplied by `scale`. compared: inputs and targets of its loss functions.
        """
        logits = self._logits
        x = self._x
        if logits is None or not loss.requires_grad or loss is logits:
            return
        if self._n_elements + 2 * logits.numel() > MAX_ELEMENTS:
            self.problem = "the logits are too large to be kept"
            return
        self._stop_listening()

        shape = _shape_by_positions(x, logits)
        targets = _targets_of(logits, compared)

        def received(gradient: Tensor) -> None:
            self._stop_listening()
            self._n_elements += 2 * logits.numel()
            self.measurements.append(
                LossMeasurement(
                    x=None if x is None else x.detach().clone(),
                    logits=logits.detach().reshape(shape).clone(),
                    gradient=gradient.detach().reshape(shape) / scale,
                    scale=scale,
                    line=line,
                    update=update,
                    targets=None if targets is None else targets.detach().clone(),
                    value=value,
                )
            )

        # A backward pass of our own would fail where the loss allows only one, as torch's linear_cross_entropy does.
        self._handle = logits.register_hook(received)  # type: ignore[no-untyped-call]

    def _stop_listening(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def release(self) -> None:
        """Keep no tensor of the loop alive."""
        self._stop_listening()
        self._x = None
        self._logits = None


def _targets_of(logits: Tensor, compared: Sequence[tuple[Any, Tensor]]) -> Tensor | None:
    """Return the targets of the only loss function, or of the only one of several that got the logits; or None."""
    if len(compared) > 1:
        compared = [pair for pair in compared if isinstance(pair[0], Tensor) and is_reshaped(pair[0], logits)]
    return compared[0][1] if len(compared) == 1 else None


def _shape_by_positions(x: Tensor | None, logits: Tensor) -> tuple[int, ...]:
    """Return [B, T, V] for logits [B·T, V] of ids [B, T], as models return them that flatten them for their loss."""
    is_flat = logits.dim() == 2 and x is not None and x.dim() == 2 and not x.is_floating_point()
    if x is None or not is_flat or x.shape[1] < 2 or len(logits) != x.numel():
        return tuple(logits.shape)
    return (*x.shape, logits.shape[1])
