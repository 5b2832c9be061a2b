"""Whether a tensor is in the memory of others, as their views are, without keeping that memory."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

MAX_TENSORS = 64


class SameMemory:
    """The memory of the tensors in what a model returned. It is not taken for that of a later tensor in its place."""

    def __init__(self, output: Any = None) -> None:
        refs = [_reference(tensor) for tensor in tensors_in(output)]
        self._refs = {ref.cdata: ref for ref in refs if ref is not None}

    def holds(self, tensor: Tensor) -> bool:
        """Return whether the tensor is one of them or a view."""
        ref = _reference(tensor)
        return ref is not None and ref.cdata in self._refs


def tensors_in(output: Any, depth: int = 2) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and mappings, the first ones of long ones."""
    if isinstance(output, Tensor):
        yield output
    elif depth:
        parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, list | tuple) else ()
        for part, _ in zip(parts, range(MAX_TENSORS), strict=False):
            yield from tensors_in(part, depth - 1)


def _reference(tensor: Tensor) -> StorageWeakRef | None:
    """Return what identifies the memory as long as it is referred to; None for a tensor without memory of its own."""
    try:
        return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError):  # Sparse tensors, and those of torch.func.
        return None
