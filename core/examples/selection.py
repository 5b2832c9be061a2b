"""Which examples of a dataset are measured: all of them, or a seeded sample of those that share no target."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from tui_lab.core.config.schema import Config
from tui_lab.data.dataset import Dataset, Task
from tui_lab.util.plural import counted

Ids = npt.NDArray[np.int64]
Part = Literal["train", "val"]
DEFAULT_TARGETS = 2**17
"""Positions that are measured unless the user asks for more: some seconds of forward passes."""


@dataclass(frozen=True)
class Sample:
    """How many examples were measured, and of how many.

    n: measured. n_candidates: those that share no target. n_examples: all of the part, or those that the run pinned.
    stride: of how many examples one is a candidate. seed: of the draw; None if all candidates were measured.
    """

    n: int
    n_candidates: int
    n_examples: int
    stride: int
    seed: int | None

    @property
    def text(self) -> str:
        """A sentence about the sample."""
        if self.stride > 1:
            what = f"{self.n_candidates:,} windows that share no target (of {self.n_examples:,} that overlap)"
        else:
            what = counted(self.n_examples, "example")
        if self.seed is None:
            return f"all {what}"
        return f"{self.n:,} of the {what}, drawn with seed {self.seed}"


def select(dataset: Dataset, n_examples: int, most: int, seed: int) -> tuple[Ids, Sample]:
    """Choose at most `most` of the first `n_examples` examples; their ids in ascending order.

    Windows of a text that overlap share targets, so only every so many windows are candidates: each target is measured
    once, and a hard passage is listed once. most: 0 for all candidates.
    """
    stride = target_stride(dataset) if n_examples == dataset.n_examples else 1
    n_candidates = -(-n_examples // stride)
    if most == 0 or most >= n_candidates:
        numbers = np.arange(n_candidates, dtype=np.int64)
        return numbers * stride, Sample(n_candidates, n_candidates, n_examples, stride, None)
    numbers = np.random.default_rng(seed).choice(n_candidates, most, replace=False)
    return np.sort(numbers) * stride, Sample(most, n_candidates, n_examples, stride, seed)


def target_stride(dataset: Dataset) -> int:
    """Return how many examples further the next one begins that shares no target with an example."""
    first = dataset.offsets(np.arange(min(2, dataset.n_examples), dtype=np.int64))
    if first is None or len(first) < 2:
        return 1
    return max(1, -(-dataset.length // int(first[1] - first[0])))


def part_of(task: Task, part: Part, config: Config) -> tuple[Dataset, int]:
    """Return the dataset of a part, and how many of its first examples the run uses."""
    if part == "val":
        return task.val, task.val.n_examples
    return task.train, min(config.data.overfit or task.train.n_examples, task.train.n_examples)
