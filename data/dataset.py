"""What a task gives to the loader: indexed examples of a fixed length, and how to score an answer."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.data.tokenizers import Tokenizer

IGNORED = -1
"""The target that the loss leaves out."""

Ids = npt.NDArray[np.int64]
Metric = Literal["exact_match", "perplexity"]


class Dataset(Protocol):
    """Examples 0 … n_examples-1, each x and y of `length` tokens."""

    @property
    def n_examples(self) -> int: ...
    @property
    def length(self) -> int: ...
    def examples(self, ids: Ids) -> tuple[Ids, Ids]:
        """x and y, int64 [len(ids), length]; y is IGNORED where the loss takes no target."""
        ...

    def offsets(self, ids: Ids) -> Ids | None:
        """Where each example starts in the corpus, in tokens [len(ids)]; None where there is no corpus."""
        ...


@dataclass(frozen=True)
class Task:
    """A task made ready: its tokenizer, its disjoint train and validation examples, its own metric."""

    name: Literal["reverse", "text"]
    tokenizer: Tokenizer
    train: Dataset
    val: Dataset
    metric: Metric
    next_token: bool
    """Whether y[t] is x[t+1] by the task's rule."""
    n_replaced: int = 0
    """Characters U+FFFD in the text, which stand for what was not valid UTF-8."""
