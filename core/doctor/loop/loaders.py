"""Which DataLoaders a loop takes batches from: for training, or for a validation part."""

import sys
from typing import Any

from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from tui_lab.core.doctor.loop.observed import LoaderUse
from tui_lab.core.doctor.loop.shared_rows import is_validation

MAX_LOADERS = 16


class _Calls:
    """Calls of the model right after a loader gave a batch."""

    def __init__(self, use: LoaderUse) -> None:
        self.use = use
        self.n_training = 0
        self.n_validation = 0


class LoaderParts:
    """Tells the loaders of the training from those of validation parts."""

    def __init__(self) -> None:
        self._calls: dict[int, _Calls] = {}
        """By the id of the loader's index sampler, which several iterators of one loader share."""
        self._latest: _Calls | None = None
        """Of the loader that gave the latest batch, until the model is called."""

    def fetched(self, iterator: Any) -> None:
        """A DataLoader's iterator gave a batch."""
        key = id(iterator._index_sampler)
        if key not in self._calls and len(self._calls) < MAX_LOADERS:
            self._calls[key] = _Calls(use_of(iterator))
        self._latest = self._calls.get(key)

    def called(self, *, is_training: bool) -> None:
        """The model was called, with gradients if `is_training`."""
        latest = self._latest
        self._latest = None
        if latest is None:
            return
        latest.n_training += is_training
        latest.n_validation += not is_training and is_validation(sys._getframe(1))

    @property
    def of_each_dataset(self) -> tuple[LoaderUse, ...]:
        """The first loader of each data set."""
        first: dict[int, LoaderUse] = {}
        for calls in self._calls.values():
            first.setdefault(id(calls.use.dataset), calls.use)
        return tuple(first.values())

    @property
    def training(self) -> tuple[LoaderUse, ...]:
        """Those that mostly gave batches to train on."""
        return tuple(calls.use for calls in self._calls.values() if calls.n_training > calls.n_validation)

    @property
    def validation(self) -> tuple[LoaderUse, ...]:
        """Those that mostly gave batches of a validation or test part."""
        return tuple(calls.use for calls in self._calls.values() if calls.n_validation > calls.n_training)


def use_of(iterator: Any) -> LoaderUse:
    """Return what a DataLoader's iterator reads."""
    try:
        n_batches = len(iterator)
    except TypeError:  # Of an iterable data set.
        n_batches = 0
    return LoaderUse(
        dataset=iterator._dataset,
        index_sampler=iterator._index_sampler,
        shuffles=shuffles(iterator),
        n_batches=n_batches,
        n_workers=iterator._num_workers,
    )


def shuffles(iterator: Any) -> bool:
    """Return whether a DataLoader's iterator gives rows in a random order."""
    sampler = getattr(iterator._index_sampler, "sampler", iterator._index_sampler)
    is_random = isinstance(sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler)
    return is_random or getattr(sampler, "shuffle", False) is True
