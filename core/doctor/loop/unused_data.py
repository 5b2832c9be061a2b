"""Finds training data that a loop has but does not use, if all of its updates train on the same rows."""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tui_lab.core.doctor.loop.observed import UnusedData
from tui_lab.core.watch.code.data_parts import part_in
from tui_lab.core.watch.model.tensor_memory import region_of
from tui_lab.core.watch.variables.frames import locals_of, user_frames

N_SAME = 5
"""Calls with the same rows after which the variables are looked at."""
MAX_VALUES = 2**24
"""Values of a variable that are searched for a row."""
Array = npt.NDArray[Any]


class UnusedDataWatch:
    """Call `called` with what the model gets in each training call."""

    def __init__(self) -> None:
        self.result: UnusedData | None = None
        self._first: Tensor | None = None
        self._n_same = 0
        self._is_over = False

    def called(self, x: Tensor | None) -> None:
        """The model is called with x [B, …]; its rows are those of the first call until one differs."""
        if self._is_over or x is None or x.dim() < 2 or not x.numel():
            return
        if self._first is None:
            self._first = x.detach().clone()
        self._n_same += 1
        is_same = x.shape == self._first.shape and torch.equal(x, self._first)
        self._is_over = not is_same or self._n_same == N_SAME
        if is_same and self._is_over:
            self.result = _unused(x.detach(), sys._getframe(1))


def _unused(x: Tensor, frame: FrameType | None) -> UnusedData | None:
    """Return the largest variable of the user that is named after the training part and holds x and more."""
    held = [
        UnusedData(name, n)
        for name, value in _training_variables(frame)
        if (n := _n_values(value) // x.numel() - 1) > 0 and _holds(value, x)
    ]
    return max(held, key=lambda data: data.n_batches, default=None)


def _training_variables(frame: FrameType | None) -> Iterator[tuple[str, Tensor | Array]]:
    """Yield the tensors and arrays of the user's running functions whose names say that they are for training."""
    visited: set[int] = set()
    for each in user_frames(frame):
        for variables in (locals_of(each), each.f_globals):
            for name, value in variables.items():
                is_data = type(value) is Tensor or isinstance(value, np.ndarray)
                if is_data and id(value) not in visited and part_in([name]) == "train":
                    visited.add(id(value))
                    yield name, value


def _n_values(value: Tensor | Array) -> int:
    return value.numel() if isinstance(value, Tensor) else value.size


def _holds(value: Tensor | Array, x: Tensor) -> bool:
    """Return whether x was cut from a tensor or array, or its first row is among its rows, or in a stream of ids."""
    if x.is_floating_point() and len(value) == len(x):
        return False  # All of its rows are trained on, with some of their features.
    x_region, region = region_of(x), region_of(value)
    if x_region is not None and region is not None and region.start <= x_region.start and x_region.stop <= region.stop:
        return True
    rows = _array(x)
    data = _array(value)
    if rows is None or data is None or data.size > MAX_VALUES:
        return False
    if data.ndim == rows.ndim and data.shape[1:] == rows.shape[1:]:
        return bool((data == rows[0]).reshape(len(data), -1).all(axis=1).any())
    if data.ndim == 1 and rows.ndim == 2:
        return _has_window(data, rows[0]) or _has_window(data, rows[:, 0])
    return False


def _array(value: Tensor | Array) -> Array | None:
    if not isinstance(value, Tensor):
        return value
    if value.layout is not torch.strided or value.dtype is torch.bfloat16 or value.is_meta:
        return None
    return value.detach().cpu().numpy()


def _has_window(stream: Array, row: Array) -> bool:
    """Return whether the values of a row follow one another in a stream."""
    starts = np.arange(max(0, len(stream) - len(row) + 1))
    for offset, value in enumerate(row):
        starts = starts[stream[starts + offset] == value]
        if not len(starts):
            return False
    return len(row) > 1
