"""Which DataLoaders a loop takes batches from: for training, or for a validation part."""

import re
import sys
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from tui_lab.core.doctor.loop.observed import LoaderUse
from tui_lab.core.watch.code.data_parts import data_part, is_validation
from tui_lab.core.watch.variables.frames import locals_of, user_frames

MAX_LOADERS = 16
_ENDS = "(?=$|[^a-z]|set|data|loader|dl|ds)"
_VALIDATION = re.compile(f"(?<![a-z])(val|vali|valid|validation|dev|test|held_?out){_ENDS}")
_TRAINING = re.compile(f"(?<![a-z])(train|training){_ENDS}")


class _Calls:
    """Calls of the model right after a loader gave a batch."""

    def __init__(self, use: LoaderUse) -> None:
        self.use = use
        self.n_training = 0
        self.n_validation = 0
        self.is_named: bool | None = None
        """Whether the user's names say that it gives a validation part; None: not looked at yet."""

    def is_validation(self, frame: FrameType) -> bool:
        """Return whether a call without gradients is one on a validation part. frame: of the call."""
        if is_validation(data_part(frame).name):
            return True
        if self.is_named is None:
            names = names_of(self.use, frame)
            self.is_named = any(map(_VALIDATION.search, names)) and not any(map(_TRAINING.search, names))
        return self.is_named


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
        latest.n_validation += not is_training and latest.is_validation(sys._getframe(1))

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


def names_of(use: LoaderUse, frame: FrameType | None) -> set[str]:
    """Return the names of variables of the user's running functions that are the DataLoader or its data set."""
    names: set[str] = set()
    for each in user_frames(frame):
        for name, value in (*locals_of(each).items(), *each.f_globals.items()):
            if value is use.dataset or (isinstance(value, DataLoader) and _samples(value) is use.index_sampler):
                names.add(name.lower())
    return names


def _samples(loader: "DataLoader[Any]") -> Any:
    """Return what gives the indices that a DataLoader reads."""
    return loader._index_sampler


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
