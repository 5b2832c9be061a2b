"""The interface between tasks and the loader: indexed examples of a fixed length, and the metric of a task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.data.tokenizers import Tokenizer

IGNORED = -1
"""The target that the loss skips."""

Ids = npt.NDArray[np.int64]
Metric = Literal["exact_match", "perplexity"]
ReportProgress = Callable[[str, int, int], None]
"""Called with the name of the work, the bytes done and the bytes in total."""


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

    name: str
    tokenizer: Tokenizer
    train: Dataset
    val: Dataset
    metric: Metric
    next_token: bool
    """Whether the task's targets are the next tokens: y[t] = x[t+1]."""
    n_replaced: int = 0
    """Characters U+FFFD in the text, which replace bytes that are not UTF-8."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What a task is made from: the table [data] of a config, and the context of the model.

    context: the most tokens of a row. val_fraction: of the data, held out, above 0 and below 1. path, tokenizer, vocab,
    stride: see the task text; length, n_digits: the task reverse. options: `data.options`, the task's own settings.
    progress: to be called while a corpus is encoded.
    """

    context: int
    val_fraction: float
    path: str
    tokenizer: str
    vocab: Literal["full", "seen"]
    stride: int
    length: int
    n_digits: int
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: ReportProgress | None = None


MakeTask = Callable[[TaskSettings], Task]
"""Makes a task. Raises DataError for settings that it cannot use."""
