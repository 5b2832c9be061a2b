"""Where the values of tensors lie in memory: a slice lies within the tensor that it was cut from."""

from collections.abc import Iterable

import torch
from torch import Tensor


def smallest_whole(part: object, tensors: Iterable[tuple[str, object]]) -> set[str]:
    """Return the names of the smallest of the named tensors that `part` was cut from; empty if none is known."""
    inner = _bytes_of(part)
    if inner is None:
        return set()
    wholes: dict[range, set[str]] = {}
    for name, tensor in tensors:
        outer = _bytes_of(tensor)
        if outer is not None and outer.start <= inner.start and inner.stop <= outer.stop and outer != inner:
            wholes.setdefault(outer, set()).add(name)
    return wholes[min(wholes, key=len)] if wholes else set()


def _bytes_of(tensor: object) -> range | None:
    """Return the addresses from the first to the last value of a tensor; None if it has none."""
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.device.type not in ("cpu", "cuda"):
        return None
    if not tensor.numel():
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return range(start, start + (last + 1) * tensor.element_size())
