"""Where the values of tensors lie in memory: a slice lies within the tensor that it was cut from."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor


def named_regions(variables: Mapping[str, object]) -> list[tuple[str, range]]:
    """Return the names of the variables that are tensors, each with its addresses."""
    return [(name, region) for name, value in variables.items() if (region := region_of(value)) is not None]


def smallest_whole(part: range, wholes: Iterable[tuple[str, range]]) -> set[str]:
    """Return the names of the smallest of the `wholes` that `part` was cut from; empty if none is known."""
    names: dict[range, set[str]] = {}
    for name, whole in wholes:
        if whole.start <= part.start and part.stop <= whole.stop and whole != part:
            names.setdefault(whole, set()).add(name)
    return names[min(names, key=len)] if names else set()


def region_of(tensor: object) -> range | None:
    """Return the addresses from the first to the last value of a tensor; None if it has none."""
    if type(tensor) is not Tensor or tensor.layout is not torch.strided or tensor.device.type not in ("cpu", "cuda"):
        return None
    if not tensor.numel():
        return None
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return range(start, start + (last + 1) * tensor.element_size())
