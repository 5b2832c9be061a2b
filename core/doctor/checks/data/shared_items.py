"""Counts the items of a validation data set that the training reads, too. Cost: 1 s at most, usually much less."""

import hashlib
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.loop.observed import LoaderUse

MAX_ENTRIES = 2**16
"""What is taken of a sampler: indices or batches of them."""
MAX_VALIDATION = 256
MAX_TRAINING = 8192
"""Items that are read."""
MAX_SECONDS = 0.8
"""Time for reading training items. Those that are left out can only hide a leak."""
MAX_REPEATED = 0.02
"""Fraction of training items that equal another, up to which equal items are not a coincidence."""
MIN_BITS = 64.0
"""−log2 of the probability that as many training items, drawn at random, are those of the validation in their order."""


@dataclass(frozen=True)
class SharedItems:
    """n: validation items that were compared. n_shared: that are training items. how: in which way they are equal."""

    n: int
    n_shared: int
    how: str


def shared_items(training: LoaderUse, validation: LoaderUse) -> SharedItems | None:
    """Return what two loaders share; None if that is nothing, or may be chance.

    Raises NotJudged for data sets without indices, and for items that are random or of unknown types.
    """
    if any(isinstance(use.dataset, IterableDataset) for use in (training, validation)):
        raise NotJudged("a data set has no indices")
    ours, theirs = _indices(validation), _indices(training)
    digests = [item_digest(validation.dataset[i]) for i in ours[:MAX_VALIDATION]]
    if None in digests or digests[:4] != [item_digest(validation.dataset[i]) for i in ours[:4]]:
        raise NotJudged("items of the validation data set are random, or not made of tensors, arrays and numbers")
    base = _in_base(validation, ours)
    base_of_training = _in_base(training, theirs)
    if base[0] is base_of_training[0]:
        n_shared = len(set(base[1]) & set(base_of_training[1]))
        return SharedItems(len(ours), n_shared, "they have the same indices in one data set") if n_shared else None
    return _compared(digests, _digests_of_training(training, theirs))


def _indices(use: LoaderUse) -> list[Any]:
    """Return the indices that a loader reads, in the order of the data set."""
    drawn: dict[Any, None] = {}
    for entry in islice(iter(use.index_sampler), MAX_ENTRIES):
        drawn.update(dict.fromkeys(entry if isinstance(entry, list | tuple) else [entry]))
    return sorted(drawn)


def _in_base(use: LoaderUse, indices: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """Return the data set that a Subset, or one of a Subset, takes items from, and their indices there."""
    dataset = use.dataset
    while isinstance(dataset, Subset):
        indices = [dataset.indices[i] for i in indices]
        dataset = dataset.dataset
    return dataset, [int(i) if isinstance(i, int | np.integer | Tensor) else i for i in indices]


def _digests_of_training(training: LoaderUse, indices: Sequence[Any]) -> list[bytes | None]:
    digests = []
    deadline = time.monotonic() + MAX_SECONDS
    for i in indices[:MAX_TRAINING]:
        digests.append(item_digest(training.dataset[i]))
        if time.monotonic() > deadline:
            break
    return digests


def _compared(ours: Sequence[bytes | None], theirs: Sequence[bytes | None]) -> SharedItems | None:
    counts = Counter(theirs)
    n_shared = sum(digest in counts for digest in ours)
    if len(counts) >= (1 - MAX_REPEATED) * len(theirs):
        return SharedItems(len(ours), n_shared, "their values are equal") if n_shared else None
    # Items repeat in any case, so that only their order shows where they come from.
    starts = [k for k in range(len(theirs) - len(ours) + 1) if theirs[k : k + len(ours)] == ours]
    if len(starts) != 1:
        return None
    bits = -sum(math.log2(counts[digest] / len(theirs)) for digest in ours)
    if bits < MIN_BITS:
        return None
    return SharedItems(len(ours), len(ours), f"in the same order, from item {starts[0]} on")


def item_digest(item: Any) -> bytes | None:
    """Return a hash of an item's values; None if it has parts of unknown types."""
    digest = hashlib.blake2b(digest_size=12)
    for part in _parts(item):
        if part is None:
            return None
        digest.update(part)
    return digest.digest()


def _parts(item: Any) -> Iterator[bytes | None]:
    if isinstance(item, Tensor) and item.layout is torch.strided and item.dtype is not torch.bfloat16:
        item = item.detach().cpu().numpy()
    if isinstance(item, np.ndarray | np.generic) and item.dtype != object:
        yield f"{item.dtype}{item.shape}".encode()
        yield item.tobytes()
    elif isinstance(item, Mapping):
        for key in item:
            yield repr(key).encode()
            yield from _parts(item[key])
    elif isinstance(item, list | tuple):
        for value in item:
            yield from _parts(value)
    elif item is None or isinstance(item, int | float | str | bytes):
        yield repr(item).encode()
    else:
        yield None
