"""Next-token prediction over windows of a text: x = tokens[:-1], y = tokens[1:]."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_lab.data.corpora.encode import Corpus
from tui_lab.data.dataset import Task
from tui_lab.data.tokenizers import SeenVocabulary
from tui_lab.util.errors import DataError

Ids = npt.NDArray[np.int64]
_CHUNK = 2**24


@dataclass(frozen=True)
class TextWindows:
    """Windows of `length` + 1 tokens, `stride` tokens apart, over one contiguous part of the corpus."""

    tokens: npt.NDArray[Any]
    length: int
    stride: int
    start: int
    """Offset of this part in the corpus, in tokens."""
    compact: Callable[[npt.NDArray[Any]], Ids] | None = None

    @property
    def n_examples(self) -> int:
        return max(0, (len(self.tokens) - self.length - 1) // self.stride + 1)

    def examples(self, ids: Ids) -> tuple[Ids, Ids]:
        positions = ids[:, None] * self.stride + np.arange(self.length + 1)
        windows = self.tokens[positions]
        compacted = self.compact(windows) if self.compact else windows.astype(np.int64)
        return compacted[:, :-1], compacted[:, 1:]

    def offsets(self, ids: Ids) -> Ids:
        return self.start + ids * self.stride


def text_task(corpus: Corpus, *, context: int, stride: int, val_fraction: float, vocab: str) -> Task:
    """Return the task of predicting the next token.

    The first part of the corpus is for training, the last for validation.

    No token is in both parts. Validation windows do not overlap. Raises DataError when a part is shorter than a window.
    """
    n_train = len(corpus.tokens) - round(len(corpus.tokens) * val_fraction)
    train_tokens = corpus.tokens[:n_train]
    val_tokens = corpus.tokens[n_train:]
    for part, tokens in (("training", train_tokens), ("validation", val_tokens)):
        if len(tokens) < context + 1:
            raise DataError.of(
                "invalid",
                f"the {part} part of {corpus.source} has {len(tokens)} tokens, and a window needs {context + 1}; "
                f"use a smaller context or a different data.val_fraction (now {val_fraction})",
                key="model.context",
                value=context,
                allowed=f"at most {max(0, len(tokens) - 1)}",
            )
    tokenizer = corpus.tokenizer
    compact = None
    if vocab == "seen":
        seen = SeenVocabulary(tokenizer, _seen_ids(train_tokens, tokenizer.n_vocab))
        tokenizer = seen
        compact = seen.compact
    train = TextWindows(train_tokens, context, stride, 0, compact)
    val = TextWindows(val_tokens, context, context, n_train, compact)
    return Task("text", tokenizer, train, val, "perplexity", next_token=True, n_replaced=corpus.n_replaced)


def _seen_ids(tokens: npt.NDArray[Any], n_vocab: int) -> Ids:
    counts = np.zeros(n_vocab, dtype=np.int64)
    for start in range(0, len(tokens), _CHUNK):
        counts += np.bincount(tokens[start : start + _CHUNK], minlength=n_vocab)
    return np.flatnonzero(counts)
