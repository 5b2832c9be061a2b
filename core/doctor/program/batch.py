"""Batches of any form: a tensor, or tuples, lists, mappings and objects with tensors, nested."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.program.nested import mapped, tensors_of

Batch = Any
"""What a step trains on, as the user's code has it."""


def with_tensor(batch: Batch, old: Tensor, new: Tensor) -> Batch:
    """Return the batch with the tensor `old`, found by identity, replaced by `new`."""
    return mapped(batch, lambda tensor: new if tensor is old else tensor)


def has_several_calls(batch: Batch) -> bool:
    """Return whether a captured batch of a script holds the arguments of several calls."""
    return isinstance(batch, dict) and sum(str(key).startswith("call ") for key in batch) > 1


def n_rows(batch: Batch) -> int:
    """Return the first size of the batch's first tensor that has one; 0 if there is none."""
    return next((int(tensor.shape[0]) for tensor in tensors_of(batch) if tensor.dim()), 0)


def first_rows(batch: Batch, n: int) -> Batch:
    """Return the first `n` rows of every tensor that has as many rows as the batch."""
    rows = n_rows(batch)
    return mapped(batch, lambda tensor: tensor[:n].contiguous() if tensor.dim() and len(tensor) == rows else tensor)


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return the batch with every tensor on `device`."""
    return mapped(batch, lambda tensor: tensor.to(device))


def numbered(batch: Batch, function: Callable[[int, Tensor], Any]) -> Batch:
    """Return a batch of the same form with `function` applied to every tensor and its place in `tensors_of`."""
    numbers = itertools.count()
    return mapped(batch, lambda tensor: function(next(numbers), tensor))


def nth_tensor(batch: Batch, n: int) -> Tensor:
    """Return tensor `n` of `tensors_of`."""
    return next(itertools.islice(tensors_of(batch), n, None))
