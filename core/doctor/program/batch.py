"""Batches of any form: a tensor, or tuples, lists, mappings and dataclasses of tensors, nested."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Batch = Any
"""What a step trains on, as the user's code has it."""


def tensors_of(batch: Batch) -> Iterator[Tensor]:
    """Yield every tensor of the batch, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors_of(value)
    elif dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        for field in dataclasses.fields(batch):
            yield from tensors_of(getattr(batch, field.name))


def output_tensors(output: Any) -> Iterator[Tensor]:
    """Yield every tensor of what a model returned, or of the attributes of an object of a library."""
    if isinstance(output, Tensor | Mapping | list | tuple):
        yield from tensors_of(output)
    else:
        yield from (value for value in getattr(output, "__dict__", {}).values() if isinstance(value, Tensor))


def mapped(batch: Batch, function: Callable[[Tensor], Any]) -> Batch:
    """Return a batch of the same form with `function` applied to every tensor; other values stay."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        values = {key: mapped(value, function) for key, value in batch.items()}
        if type(batch) is dict:
            return values
        other: Any = copy.copy(batch)  # Such as the BatchEncoding of transformers.
        for key, value in values.items():
            other[key] = value
        return other
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):  # A namedtuple.
        return type(batch)(*(mapped(value, function) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(mapped(value, function) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        other = copy.copy(batch)
        for field in dataclasses.fields(batch):
            object.__setattr__(other, field.name, mapped(getattr(batch, field.name), function))
        return other
    return batch


def with_tensor(batch: Batch, old: Tensor, new: Tensor) -> Batch:
    """Return the batch with the tensor `old`, found by identity, replaced by `new`."""
    return mapped(batch, lambda tensor: new if tensor is old else tensor)


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
