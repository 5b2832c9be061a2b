"""Does reading an item change what the data set stores? Cost: twelve reads, and two copies of what is stored."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.observed import LoaderUse
from tui_lab.core.doctor.program.target import Target

MAX_BYTES = 2**28
"""Of all stored arrays that are compared."""
MAX_OBJECTS = 20_000
MAX_DEPTH = 6
N_ITEMS = 6


@dataclass(frozen=True)
class Stored:
    """A tensor or array that a data set holds. name: the attributes that lead to it."""

    name: str
    value: Any


@dataclass(frozen=True)
class ItemChange:
    """What the second read of an item changed. n: elements. shared: whether the item is a view of what is stored."""

    stored: Stored
    index: Any
    n: int
    shared: bool


def check(target: Target) -> Iterator[Finding]:
    record = target.record
    if record is None:
        raise NotApplicable("the loop itself was not recorded")
    loaders = [use for use in record.observed.loaders if not isinstance(use.dataset, IterableDataset)]
    if not loaders:
        raise NotApplicable("no batch came from a DataLoader over a data set with indices")
    reasons = []
    for use in loaders:
        try:
            # The script has ended, so that nothing needs the data set as it is.
            change = _change(use.dataset, use)
        except NotJudged as reason:
            reasons.append(str(reason))
            continue
        except Exception as error:
            reasons.append(f"reading items of {type(use.dataset).__name__} again failed: {error}")
            continue
        if change is not None:
            yield _finding(use, change)
            return
    if reasons:
        raise NotJudged("; ".join(dict.fromkeys(reasons)))


def _change(dataset: Any, use: LoaderUse) -> ItemChange | None:
    """Return what reading an item for the second time changes; None if nothing."""
    stored = list(_stored(dataset))
    if sum(_n_bytes(one.value) for one in stored) > MAX_BYTES:
        raise NotJudged(f"{type(dataset).__name__} stores more than {MAX_BYTES >> 20} MiB, too much to compare")
    for index in _indices(use):
        # The first read may fill a cache.
        dataset[index]
        before = [_copied(one.value) for one in stored]
        item = dataset[index]
        for one, old in zip(stored, before, strict=True):
            n = _n_changed(one.value, old)
            shared = n > 0 and any(_share(one.value, part) for part in _arrays(item))
            # A counter of reads is a number, or one number for each item.
            if n and (shared or one.value.ndim >= 2):
                return ItemChange(one, index, n, shared)
    return None


def _indices(use: LoaderUse) -> list[Any]:
    """Return some of the indices that the loader reads."""
    n = len(use.dataset) if hasattr(use.dataset, "__len__") else 0
    drawn: list[Any] = []
    for entry in itertools.islice(iter(use.index_sampler), N_ITEMS):
        drawn += entry if isinstance(entry, list | tuple) else [entry]
    spread = {int(i) for i in np.linspace(0, n - 1, N_ITEMS)} if n else set()
    return list(dict.fromkeys([*drawn[:N_ITEMS], *(i for i in sorted(spread) if i in drawn)]))[:N_ITEMS]


def _stored(dataset: Any) -> Iterator[Stored]:
    """Yield the tensors and arrays that a data set reaches through attributes and containers."""
    stack: list[tuple[str, Any, int]] = [("", dataset, 0)]
    visited: dict[int, Any] = {}
    while stack and len(visited) < MAX_OBJECTS:
        name, value, depth = stack.pop()
        if id(value) in visited or depth > MAX_DEPTH:
            continue
        visited[id(value)] = value
        if isinstance(value, Tensor):
            if value.layout == torch.strided:
                yield Stored(name, value)
        elif isinstance(value, np.ndarray):
            if value.dtype != object:
                yield Stored(name, value)
        elif isinstance(value, Mapping):
            stack += [(f"{name}[{key!r}]", item, depth + 1) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            stack += [(f"{name}[{i}]", item, depth + 1) for i, item in enumerate(value)]
        elif isinstance(attributes := getattr(value, "__dict__", None), dict) and not isinstance(value, type):
            stack += [(f"{name}.{key}".lstrip("."), item, depth + 1) for key, item in attributes.items()]


def _arrays(item: Any) -> Iterator[Any]:
    return (one.value for one in _stored(item))


def _n_bytes(value: Any) -> int:
    return int(value.numel() * value.element_size() if isinstance(value, Tensor) else value.nbytes)


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value.copy()


def _n_changed(value: Any, before: Any) -> int:
    if isinstance(value, Tensor):
        differs = value.detach() != before
        if value.is_floating_point():
            differs &= ~(value.detach().isnan() & before.isnan())
        return int(differs.sum())
    differs = value != before
    if value.dtype.kind == "f":
        differs &= ~(np.isnan(value) & np.isnan(before))
    return int(np.sum(differs))


def _share(stored: Any, part: Any) -> bool:
    """Return whether a part of an item lies in the memory of what is stored."""
    try:
        one = stored.detach().numpy() if isinstance(stored, Tensor) else stored
        other = part.detach().numpy() if isinstance(part, Tensor) else part
    except (RuntimeError, TypeError):  # On a device, or of a type that NumPy does not have.
        return False
    return bool(np.may_share_memory(one, other))


def _finding(use: LoaderUse, change: ItemChange) -> Finding:
    name = type(use.dataset).__name__
    has_workers = use.n_workers > 0
    return Finding(
        code="data_changed",
        # A worker has a copy of the data set, which lives for one epoch unless workers are persistent.
        kind="hint" if has_workers else "finding",
        title=f"Reading an item of {name} changes the stored data, so changes add up over the epochs.",
        evidence=f"reading item {change.index} once more changes {change.n:,} values of {change.stored.name}"
        + (", and the returned item lies in its memory" if change.shared else "")
        + (f"; the {use.n_workers} workers change their own copies" if has_workers else ""),
        why="Each epoch trains on data that the epochs before have changed: augmented or normalized again and again.",
        fix=f"Copy the item in {name}.__getitem__ before it is changed: .copy() for arrays, .clone() for tensors, and "
        "no operations in place.",
        location=_place(use.dataset),
        explains=("nondeterministic",),
    )


def _place(dataset: Any) -> str:
    """Return where the class reads an item, "train.py:42"."""
    code = getattr(getattr(type(dataset), "__getitem__", None), "__code__", None)
    if code is None or "site-packages" in code.co_filename:
        return ""
    return f"{code.co_filename.rpartition('/')[2]}:{code.co_firstlineno}"
