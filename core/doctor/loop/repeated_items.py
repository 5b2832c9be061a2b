"""Notices a loop all of whose updates read the same items of a data set, although it has others."""

import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

from torch.utils.data import IterableDataset

from tui_lab.core.doctor.loop.loaders import use_of
from tui_lab.core.doctor.loop.observed import RepeatedItems

MAX_ITEMS = 2**16
"""Items of an update, beyond which updates are not compared."""
Items = dict[tuple[int, Any], Any]
"""The data set and the index of each item, by the data set's id and the index."""


class RepeatedItemsWatch:
    """Compares the items of each update with those of the first, until they differ."""

    def __init__(self) -> None:
        self._n_updates = 0
        self._is_over = False
        self._drawn: weakref.WeakKeyDictionary[Any, deque[Sequence[Any]]] = weakref.WeakKeyDictionary()
        """The indices of the batches that each iterator has not given yet."""
        self._fetched: Items = {}
        self._n_fetched = 0
        """Of the batches since the last call of the model."""
        self._items: Items = {}
        """Of the update."""
        self._first: Items = {}
        self._n_batches_read = 0
        self._n_batches = 0
        self._n_batches_of_loader = 0

    @property
    def result(self) -> RepeatedItems | None:
        """The items that all updates read; None if they differ, or there are no other batches."""
        datasets = {key: dataset for (key, _), dataset in self._first.items()}
        if self._is_over or not self._n_updates or len(datasets) != 1 or self._n_batches <= self._n_batches_read:
            return None
        (dataset,) = datasets.values()
        return RepeatedItems(dataset, tuple(i for _, i in self._first), self._n_updates, self._n_batches)

    def drawn(self, iterator: Any, indices: Any) -> None:
        """A DataLoader's iterator drew the indices of a batch, which it will give later."""
        if not self._is_over:
            batch = indices if isinstance(indices, list | tuple) else [indices]
            self._drawn.setdefault(iterator, deque()).append(batch)

    def fetched(self, iterator: Any) -> None:
        """A DataLoader's iterator gave a batch."""
        batches = self._drawn.get(iterator)
        if self._is_over or not batches:
            return
        dataset = iterator._dataset
        indices = batches.popleft()
        if isinstance(dataset, IterableDataset) or len(self._items) + len(indices) > MAX_ITEMS:
            self._end()
            return
        self._fetched |= {(id(dataset), index): dataset for index in indices}
        self._n_fetched += 1
        self._n_batches_of_loader = use_of(iterator).n_batches

    def called(self, *, is_training: bool) -> None:
        """The model was called, with gradients if `is_training`."""
        if is_training and self._fetched:
            self._items |= self._fetched
            if not self._n_updates:
                self._n_batches_read += self._n_fetched
                self._n_batches = self._n_batches_of_loader
        self._fetched = {}
        self._n_fetched = 0

    def update_ended(self) -> None:
        """An update is over."""
        if self._is_over:
            return
        self._first = self._first or self._items
        if not self._items or self._items.keys() != self._first.keys():
            self._end()
        self._n_updates += 1
        self._items = {}

    def _end(self) -> None:
        """Hold no item of the loop any more."""
        self._is_over = True
        self._drawn.clear()
        self._first = self._items = self._fetched = {}
