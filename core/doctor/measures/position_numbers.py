"""Positions that the elements of a tensor come from, numbered by row · n_positions + position."""

import torch
from torch import Tensor


def heads_differ(positions: Tensor, T: int) -> bool:
    """Return whether two heads of the first row, in positions [..., vectors], come from different positions of it."""
    groups = positions.flatten(0, -2) if positions.dim() > 1 else positions[None]
    of_first_row = groups[(groups // max(T, 1) == groups[0, 0] // max(T, 1)).all(dim=1)].sort(dim=1).values
    return bool((of_first_row != of_first_row[:1]).any())


def varies(values: Tensor, axis: int) -> bool:
    """Return whether values differ along an axis."""
    return bool((values != values.narrow(axis, 0, 1)).any())


def is_constant(positions: Tensor) -> bool:
    """Return whether each vector comes from one position."""
    return bool((positions == positions[..., :1]).all())


def is_grid(positions: Tensor, T: int) -> bool:
    """Return whether positions [n, m] have rows along one axis and positions along the other."""
    rows, times = positions // T, positions % T
    straight = bool((rows == rows[:, :1]).all() and (times == times[:1]).all())
    return straight or bool((rows == rows[:1]).all() and (times == times[:, :1]).all())


def spread(positions: Tensor | None, result: Tensor) -> Tensor | None:
    """Return the positions of each element of [..., queries, d] from those of the queries."""
    if positions is None or positions.shape != result.shape[:-1]:
        return None
    return positions[..., None].expand(result.shape)


def agreed(several: list[Tensor | None], result: Tensor) -> Tensor | None:
    """Return the positions that all operands of the result's shape have, or None."""
    candidates = [positions for positions in several if positions is not None and positions.shape == result.shape]
    if not candidates or any(not torch.equal(candidates[0], other) for other in candidates[1:]):
        return None
    return candidates[0]
