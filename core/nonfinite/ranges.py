"""Whether tensors are finite, and the range of their values."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.nonfinite.record import Kind, TensorRange

_WIDE_ENOUGH = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def has_values(value: Any) -> bool:
    """Return whether `value` is a tensor of real or complex numbers whose entries can be read here."""
    return (
        isinstance(value, Tensor)
        and (value.is_floating_point() or value.is_complex())
        and value.layout == torch.strided
        and value.numel() > 0
        and value.device.type != "meta"
    )


def real(tensor: Tensor) -> Tensor:
    """Return the entries of a tensor in a real dtype that torch can compute with."""
    values = tensor.detach()
    if values.is_complex():
        values = torch.view_as_real(values.resolve_conj())
    return values if values.dtype in _WIDE_ENOUGH else values.float()


def is_finite(tensor: Tensor) -> bool:
    """Return whether no entry is infinite or NaN; `has_values(tensor)` must hold."""
    low, high = torch.aminmax(real(tensor))  # One pass over the values; NaN is passed on.
    return math.isfinite(low.item()) and math.isfinite(high.item())


def all_finite(tensors: Iterable[Any]) -> bool:
    """Return whether none of the tensors among these values has an infinite entry or NaN."""
    return all(is_finite(tensor) for tensor in tensors if has_values(tensor))


def kinds(tensor: Tensor) -> frozenset[Kind]:
    """Return the kinds of non-finite values in a tensor."""
    values = real(tensor)
    present: list[Kind] = []
    if bool(torch.isnan(values).any()):
        present.append("nan")
    if bool(torch.isposinf(values).any()):
        present.append("inf")
    if bool(torch.isneginf(values).any()):
        present.append("-inf")
    return frozenset(present)


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name of a dtype without torch's prefix, such as float32."""
    return str(dtype).removeprefix("torch.")


def range_of(name: str, tensor: Tensor) -> TensorRange:
    """Return the range of a tensor's finite entries and how many are not finite."""
    values = real(tensor)
    finite = values[torch.isfinite(values)]
    n_nan = int(torch.isnan(values).sum())
    return TensorRange(
        name=name,
        dtype=dtype_name(tensor.dtype),
        shape=tuple(tensor.shape),
        low=float(finite.min()) if finite.numel() else None,
        high=float(finite.max()) if finite.numel() else None,
        n_nan=n_nan,
        n_inf=values.numel() - finite.numel() - n_nan,
    )
