"""The tensors of a process: which storages they have, and whose they are."""

import gc
from collections.abc import Iterable, Iterator, Sequence

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

Sizes = dict[int, int]
"""Bytes of storages by their address."""


def sizes_of(tensors: Iterable[object]) -> Sizes:
    """Return the storages of those that are tensors; what has no memory of its own is left out."""
    sizes: Sizes = {}
    for tensor in tensors:
        if not issubclass(type(tensor), Tensor):
            continue
        try:
            storage = tensor.untyped_storage()  # type: ignore[attr-defined]
            if address := storage.data_ptr():
                sizes[address] = storage.nbytes()
        except (RuntimeError, NotImplementedError):  # Sparse, or without data.
            continue
    return sizes


def weights_of(modules: Iterable[nn.Module], optimizers: Iterable[Optimizer]) -> list[Tensor]:
    """Return the parameters of modules and of optimizers, each once."""
    by_id: dict[int, Tensor] = {id(p): p for module in modules for p in module.parameters()}
    for optimizer in optimizers:
        by_id |= {id(p): p for group in optimizer.param_groups for p in group["params"]}
    return list(by_id.values())


def state_of(optimizers: Iterable[Optimizer]) -> Iterator[object]:
    """Yield what the state of optimizers holds, tensors among it."""
    for optimizer in optimizers:
        for state in list(optimizer.state.values()):
            yield from tree_leaves(state)


def all_tensors(device: str) -> list[Tensor]:
    """Return the tensors on a type of device that Python knows, those whose memory torch has allocated.

    They are found by type, so that no object is asked with code of its own.
    """
    tensors = []
    for obj in gc.get_objects():
        if issubclass(type(obj), Tensor):
            try:
                if obj.device.type == device and obj.untyped_storage().resizable():
                    tensors.append(obj)
            except (RuntimeError, NotImplementedError, AttributeError):
                continue
    return tensors


def device_of(tensors: Sequence[Tensor]) -> str:
    """Return the type of device that holds most of the tensors' bytes."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.device.type] = sizes.get(tensor.device.type, 0) + tensor.nbytes
    return max(sizes, key=lambda device: sizes[device], default="cpu")


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def capacity_of(device: str) -> int | None:
    """Return the bytes of memory of all devices of a type, for the CPU those of the machine; None if not known."""
    if device == "cuda":
        return sum(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    return int(psutil.virtual_memory().total) if device == "cpu" else None
