"""Fingerprints of tensors: equal for equal bits."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tui_lab.core.watch.model.model_calls import is_sharded

MAX_DEPTH = 4
"""Of containers in the arguments of a model."""


def fingerprint(tensor: Tensor) -> str:
    """Return 16 hexadecimal digits of the BLAKE2 hash of a tensor's dtype, shape and values.

    It is of this process's part of a sharded tensor, and of the shape alone where there are no values to read.
    """
    local = tensor.detach()
    if is_sharded(local):
        local = getattr(local, "to_local")()  # noqa: B009 - only such tensors have it.
    digest = hashlib.blake2b(f"{local.dtype} {tuple(local.shape)}".encode(), digest_size=8)
    if local.device.type != "meta":
        dense = local if local.layout == torch.strided else local.to_dense()
        flat = dense.cpu().contiguous().reshape(-1)
        digest.update(flat.resolve_conj().resolve_neg().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def inputs_in(value: Any, name: str = "", depth: int = MAX_DEPTH) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in the arguments of a call that depend on no weights, each with its name."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, Tensor):
        if not value.requires_grad:
            yield name, value
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from inputs_in(item, str(key), depth - 1)
    elif depth and isinstance(value, list | tuple):
        for number, item in enumerate(value, 1):
            yield from inputs_in(item, f"{name} {number}".strip(), depth - 1)
