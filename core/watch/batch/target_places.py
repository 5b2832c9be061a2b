"""At which positions of a batch the targets of a loss are: at all, at all but the last, or at the last ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

AGREEMENT = 0.9
"""Fraction of the targets that are the next id, above which they are read in that direction."""


@dataclass(frozen=True)
class TargetPlaces:
    """B rows have targets at `n` positions of T, from the position `first`.

    is_time_first: whether ids and targets are [T, B] and [n, B], so that a row is a column of them.
    """

    B: int
    T: int
    first: int
    n: int
    is_time_first: bool = False

    def rows(self, values: Tensor) -> Tensor:
        """Return targets, or logits [B·n, V], by rows: [B, n, …]."""
        shape = values.shape[1:] if values.dim() > 1 and values.numel() != self.B * self.n else ()
        if self.is_time_first:
            return values.reshape(self.n, self.B, *shape).transpose(0, 1)
        return values.reshape(self.B, self.n, *shape)


def target_places(x: Tensor, logits: Tensor | None, targets: Tensor) -> TargetPlaces | None:
    """Return where the targets are among ids x [B, T] or [T, B]; None if that is not known.

    Fewer targets belong to the last positions if they are the ids that follow there, or if they are one for each row
    and the logits are a view of all logits at the last position. Otherwise it is a class of the row.
    logits: None: they are not known.
    """
    if targets.is_floating_point() or x.dim() != 2 or x.numel() == 0:
        return None
    B, T = x.shape
    if targets.numel() == x.numel():
        if continues_along_first(x, targets):
            return TargetPlaces(T, B, 0, B, is_time_first=True)
        return TargetPlaces(B, T, 0, T)
    if targets.numel() == B * (T - 1):
        return TargetPlaces(B, T, 0, T - 1)
    for places in (_last(B, T, targets), _last(T, B, targets, is_time_first=True)):
        if places is not None and _are_of_last(x, logits, targets, places):
            return places
    return None


def continues_along_first(x: Tensor, targets: Tensor) -> bool:
    """Return whether targets are the next ids of x [T, B] along its first dimension, and not along its second."""
    if x.dim() != 2 or min(x.shape) < 2 or targets.numel() != x.numel() or targets.is_floating_point():
        return False
    y = targets.reshape(x.shape)
    along_first = float((y[:-1] == x[1:]).float().mean())
    return along_first > AGREEMENT > float((y[:, :-1] == x[:, 1:]).float().mean())


def _last(B: int, T: int, targets: Tensor, *, is_time_first: bool = False) -> TargetPlaces | None:
    """Return the places at the end of rows, if each has equally many, and fewer than positions."""
    n, remainder = divmod(targets.numel(), B)
    return TargetPlaces(B, T, T - n, n, is_time_first) if remainder == 0 and 0 < n < T - 1 else None


@torch.no_grad()
def _are_of_last(x: Tensor, logits: Tensor | None, targets: Tensor, places: TargetPlaces) -> bool:
    if places.n == 1:
        return logits is not None and _is_view_of_last(logits, places)
    ids = x.t() if places.is_time_first else x
    following = ids[:, places.first + 1 :]
    return float((places.rows(targets)[:, :-1] == following).float().mean()) > AGREEMENT


def _is_view_of_last(logits: Tensor, places: TargetPlaces) -> bool:
    """Return whether logits [B, V] lie in memory as those of the last position of [B, T, V] or [T, B, V]."""
    if logits.dim() != 2 or len(logits) != places.B:
        return False
    B, T, V = places.B, places.T, logits.shape[1]
    n_values = logits.untyped_storage().nbytes() // logits.element_size()
    start, row = ((T - 1) * B * V, V) if places.is_time_first else ((T - 1) * V, T * V)
    return n_values == B * T * V and logits.storage_offset() == start and logits.stride() == (row, 1)
