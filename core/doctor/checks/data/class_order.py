"""Does an unshuffled loop get the examples one class after the other? Called by the check of the loop's rows."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, SequentialSampler

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loop.observed import LoaderUse
from tui_lab.core.doctor.loop.record import LoopRecord

MAX_ITEMS = 256
"""Items that are read, at equal distances over the data set."""
MIN_OF_A_CLASS = 16
"""Items of each class, at least, of which sorted data have one run each: by chance, that does not happen."""
MAX_SECONDS = 2.0
LABEL_KEYS = ("labels", "label", "target", "targets", "y")


def sorted_classes(record: LoopRecord) -> Iterator[Finding]:
    """Yield a finding if a loader without shuffling reads a data set that is sorted by class."""
    for use in record.observed.training_loaders:
        sampler = getattr(use.index_sampler, "sampler", use.index_sampler)
        # Other samplers have an order of their own, such as by length or class.
        if type(sampler) is not SequentialSampler or isinstance(use.dataset, IterableDataset):
            continue
        labels = _labels(use)
        classes = Counter(labels)
        n_changes = sum(a != b for a, b in zip(labels, labels[1:], strict=False))
        if len(classes) > 1 and n_changes == len(classes) - 1 and min(classes.values()) >= MIN_OF_A_CLASS:
            yield _not_shuffled(use, classes)
            return


def _labels(use: LoaderUse) -> list[int]:
    """Return the classes of items at equal distances; [] if an item has none, or cannot be read again."""
    try:
        return _read_labels(use)
    except Exception:  # Whatever the user's data set raises, such as for a file that the script has closed.
        return []


def _read_labels(use: LoaderUse) -> list[int]:
    n = len(use.dataset)
    began = time.monotonic()
    labels: list[int] = []
    for index in np.linspace(0, n - 1, min(n, MAX_ITEMS)).astype(int).tolist():
        label = _label(use.dataset[index])
        if label is None or time.monotonic() - began > MAX_SECONDS:
            return []
        labels.append(label)
    return labels


def _label(item: Any) -> int | None:
    """Return the class of an item: a whole number under a name of labels, or the second of a pair."""
    value = item
    if isinstance(item, Mapping):
        value = next((item[key] for key in LABEL_KEYS if key in item), None)
    elif isinstance(item, tuple | list) and len(item) == 2:
        value = item[-1]
    else:
        return None
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _not_shuffled(use: LoaderUse, classes: Mapping[int, int]) -> Finding:
    return Finding(
        code="not_shuffled",
        title="The training data are sorted by class, and the loader does not shuffle them.",
        evidence=f"{sum(classes.values())} of {len(use.dataset):,} items at equal distances: each of {len(classes)} "
        "classes is one run, and the batches are drawn in the order of the data set",
        why="Most batches hold one class only, so the model swings to whichever class came last.",
        fix="Pass shuffle=True to the DataLoader; or shuffle the data set before the training.",
    )
