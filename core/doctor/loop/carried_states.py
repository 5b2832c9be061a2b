"""Notices states that a call returns and that a call of a later update gets."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.loop.loss_graph import when_reached
from tui_lab.core.doctor.loop.observed import CarriedState
from tui_lab.core.doctor.program.nested import tensors_of

RECURRENT = (nn.RNNBase, nn.RNNCellBase)
MAX_ELEMENTS = 2**20
"""Elements of a tensor that is remembered."""
MIN_COMPARED = 3
"""Pairs of batches from which it is known whether they continue each other."""


@dataclass
class _Returned:
    """A tensor that a call returned. update, n_shuffled: the number of updates and of shuffled batches until then.

    is_trained: whether a backward pass has reached what the call returned. A policy also acts, and is then trained from
    the state that it had when it acted.
    """

    value: Tensor
    update: int
    n_shuffled: int
    is_trained: bool = False


class StateWatch:
    """Call the methods as the loop runs. Only calls with gradients count."""

    def __init__(self) -> None:
        self.n_updates = 0
        self._n_shuffled = 0
        self._returned: dict[int, list[_Returned]] = {}
        """The latest of each module."""
        self._carried: dict[tuple[str, tuple[int, ...]], CarriedState] = {}
        """By the type of the module that got the state, and the state's shape."""
        self._x: Tensor | None = None
        self._y: Tensor | None = None
        self._continuities: list[float] = []

    def fetched(self, *, shuffled: bool) -> None:
        """A DataLoader gave a batch."""
        self._n_shuffled += shuffled

    def batch(self, x: Tensor | None) -> None:
        """The model is called with `x`."""
        if x is not None and self._x is not None and self._y is not None:
            continuity = _continuity(self._x, self._y, x)
            if continuity is not None:
                self._continuities.append(continuity)
        is_ids = x is not None and x.dim() == 2 and not x.is_floating_point()
        self._x = x.detach().clone() if x is not None and is_ids else None
        self._y = None

    def targets(self, y: Tensor) -> None:
        """A loss function got `y`."""
        if self._x is not None and not y.is_floating_point() and y.numel() == self._x.numel():
            self._y = y.detach().clone()

    def entering(self, module: nn.Module, values: Iterable[Any]) -> None:
        """A module is called with `values`, its first input left out where that is not a state."""
        for value in values:
            for tensor in tensors_of(value):
                source = self._source(tensor)
                if source is not None:
                    self._note(module, tensor, source)

    def leaving(self, module: nn.Module, values: Iterable[Any], output: Any) -> None:
        """The call returned `values` in its output."""
        tensors = [t for value in values for t in tensors_of(value) if _may_be_state(t)]
        returned = [_Returned(t.detach(), self.n_updates, self._n_shuffled) for t in tensors]
        self._returned[id(module)] = returned

        def reached() -> None:
            for one in returned:
                one.is_trained = True

        if returned:
            when_reached(output, reached)

    @property
    def results(self) -> tuple[CarriedState, ...]:
        n = len(self._continuities)
        continuity = sum(self._continuities) / n if n >= MIN_COMPARED else None
        return tuple(replace(state, continuity=continuity) for state in self._carried.values())

    def _source(self, tensor: Tensor) -> _Returned | None:
        """Return where a tensor comes from, if that is a call of an earlier update."""
        if not _may_be_state(tensor) or tensor.requires_grad:
            return None
        for returned in (one for group in self._returned.values() for one in group):
            is_earlier = returned.update < self.n_updates and returned.value.shape == tensor.shape
            if is_earlier and returned.is_trained and torch.equal(returned.value, tensor) and bool(tensor.any()):
                return returned
        return None

    def _note(self, module: nn.Module, tensor: Tensor, source: _Returned) -> None:
        key = (type(module).__name__, tuple(tensor.shape))
        state = self._carried.get(key) or CarriedState(key[0], user_line(), key[1])
        is_other_batch = self._n_shuffled > source.n_shuffled
        self._carried[key] = replace(state, n=state.n + 1, n_shuffled=state.n_shuffled + is_other_batch)


def _may_be_state(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() >= 2 and 1 < tensor.numel() <= MAX_ELEMENTS


def _continuity(x: Tensor, y: Tensor, following: Tensor) -> float | None:
    """Return the fraction of rows whose first id is the last target of the same row before; None: not comparable."""
    if x.shape != following.shape or following.is_floating_point() or y.numel() != x.numel():
        return None
    rows = y.reshape(x.shape) if y.dim() != 2 or y.shape == x.shape else y.T
    batch_first = float((rows[:, -1] == following[:, 0]).float().mean())
    time_first = float((rows[-1] == following[0]).float().mean())
    return max(batch_first, time_first)
