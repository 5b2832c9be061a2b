"""The interface between tasks and the loader: indexed examples of a fixed length, and the metric of a task."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.data.tokenizers import Tokenizer

IGNORED = -1
"""The target that the loss skips."""

Ids = npt.NDArray[np.int64]
Metric = Literal["exact_match", "perplexity"]


class Dataset(Protocol):
    """Examples 0 … n_examples-1, each with x and y of `length` tokens."""

    @property
    def n_examples(self) -> int: ...
    @property
    def length(self) -> int: ...
    def examples(self, ids: Ids) -> tuple[Ids, Ids]:
        """Return x and y, int64 [len(ids), length]; y is IGNORED where the loss skips the position."""
        ...

    def offsets(self, ids: Ids) -> Ids | None:
        """Return the start of each example in the corpus, in tokens [len(ids)]; None where there is no corpus."""
        ...


@dataclass(frozen=True)
class Task:
    """A task: its tokenizer, disjoint training and validation examples, and its metric."""

    name: Literal["reverse", "text"]
    tokenizer: Tokenizer
    train: Dataset
    val: Dataset
    metric: Metric
    next_token: bool
    """Whether the task's targets are the next tokens: y[t] = x[t+1]."""
    n_replaced: int = 0
    """Characters U+FFFD in the text, which replace bytes that are not UTF-8."""
