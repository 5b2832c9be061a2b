"""Finds weights that a loop averages with themselves, as where `ema = model` has made no copy."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.observed import SelfAverage
from tui_lab.core.watch.model.model_search import parameters_of

IN_PLACE = ("mul_", "add_", "lerp_")
"""Methods with which loops move an average in place: a.lerp_(b, w), or a.mul_(d).add_(b, alpha=1 - d)."""
SAME = 1e-6
"""Relative difference up to which two numbers in float32 are the same."""
MIN_SHARE = 1e-5
"""Smallest 1 - d at which rounding does not hide the difference of d · a + (1 - d) · a and d · a + (1 - d) · b."""


class SelfAverageCalls:
    """Tells which calls of IN_PLACE average a tensor with itself."""

    def __init__(self) -> None:
        self._scaled = (0, 1.0)
        """The memory that was multiplied last, and the factor."""

    def is_self_average(self, name: str, tensor: Tensor, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        """Return whether this call completes an average of `tensor` with itself."""
        memory = _memory(tensor)
        other = args[0] if args else kwargs.get("other", kwargs.get("end"))
        if name == "mul_":
            self._scaled = (memory, float(other) if isinstance(other, int | float) else 1.0)
            return False
        if not memory or not isinstance(other, Tensor) or other.shape != tensor.shape:
            return False
        if name == "lerp_":
            return _memory(other) == memory
        share = 1.0 - self._scaled[1]
        if self._scaled[0] != memory or not MIN_SHARE < share < 1.0:
            return False
        alpha = kwargs.get("alpha", 1)
        if _memory(other) == memory:
            return bool(abs(alpha - share) < SAME)
        return alpha == 1 and _is_share(other, tensor, share)


class SelfAverageWatch:
    """Call `stepped` after each step of an optimizer, and `add` for each average of a tensor with itself."""

    def __init__(self) -> None:
        self._trained: set[int] = set()
        """The memory of the weights that have been trained."""
        self._lines: dict[str, tuple[set[int], set[int]]] = {}
        """For each line the weights, by their memory, and the updates after which they were averaged."""

    def stepped(self, optimizer: Optimizer) -> None:
        """Note the weights of an optimizer."""
        self._trained.update(_memory(p) for p in parameters_of([optimizer]))

    def add(self, tensor: Tensor, line: str, n_updates: int) -> None:
        """Note a call, if the tensor is a trained weight. n_updates: the updates before it."""
        memory = _memory(tensor)
        if memory in self._trained:
            weights, updates = self._lines.setdefault(line, (set(), set()))
            weights.add(memory)
            updates.add(n_updates)

    @property
    def results(self) -> tuple[SelfAverage, ...]:
        """One for each line that made such calls."""
        return tuple(SelfAverage(line, len(weights), len(updates)) for line, (weights, updates) in self._lines.items())


def _memory(tensor: Tensor) -> int:
    """Return where the values of a plain tensor are; 0 for others, such as those that torch.compile traces."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return 0
    try:
        return tensor.data_ptr()
    except RuntimeError:  # Without storage, as a sparse one.
        return 0


@torch.no_grad()
def _is_share(other: Tensor, tensor: Tensor, share: float) -> bool:
    """Return whether `other` is share · tensor, which is not zero everywhere."""
    if other.dtype not in (torch.float32, torch.float64) or other.device != tensor.device:
        return False
    expected = tensor.detach() * share
    gap = (other.detach() - expected).abs().max() if other.numel() else expected.sum()
    return bool(expected.any()) and float(gap) <= SAME * float(expected.abs().max())
