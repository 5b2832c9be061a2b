"""Norms and products of lists of tensors, with one copy from the device."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the norm of each tensor."""
    if not tensors:
        return []
    each = torch._foreach_norm([dense(t.detach()) for t in tensors])
    if len({(n.dtype, n.device) for n in each}) > 1:
        return [float(n) for n in each]
    together: list[float] = torch.stack(each).double().tolist()  # One copy from the device.
    return together


def dots(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[float]:
    """Return the scalar product of each pair."""
    return [float((a.detach().double() * b.detach().double()).sum()) for a, b in zip(first, second, strict=True)]


def total(parts: Iterable[float]) -> float:
    """Return the norm of a vector whose parts have these norms."""
    return float(sum(norm * norm for norm in parts) ** 0.5)


def dense(tensor: Tensor) -> Tensor:
    """Return the tensor itself, or a dense one with the values of a sparse one."""
    return tensor.to_dense() if tensor.layout != torch.strided else tensor
