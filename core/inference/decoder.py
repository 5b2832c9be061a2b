"""From all tokens so far to the next token's logits, for one row or for several at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tui_lab.core.inference.token_step import TokenStep, head_product, is_plain
from tui_lab.core.model import Transformer
from tui_lab.core.user_code.external_model import Model

NextLogits = Callable[[list[int]], Tensor]


def decoder_of(model: Model, n_tokens: int, *, use_cache: bool = True) -> NextLogits:
    """Return a function from all tokens of a row so far to the logits [V] of the next, for about `n_tokens` calls.

    It sees the last `context` tokens. The model must be in evaluation mode, and its weights must not change between
    calls.
    """
    if use_cache and isinstance(model, Transformer) and is_plain(model):
        return _RowDecoder(model, n_tokens)
    return model.decoder(n_tokens, use_cache=use_cache)


class _RowDecoder:
    def __init__(self, model: Transformer, n_tokens: int) -> None:
        self._model = model
        self._n_tokens = n_tokens
        self._head = head_product(model, n_tokens)
        self._step = TokenStep(model)
        self._length = 0

    def __call__(self, tokens: list[int]) -> Tensor:
        n = len(tokens)
        context = self._model.config.context
        if n > context:
            # Positions are absolute: once the window slides, every key changes and the cache is of no use.
            return self._head(self._model.layers_output(torch.tensor([tokens[-context:]]))[0, -1])
        if 0 < self._length == n - 1 and n <= self._step.capacity:
            h = self._step.one(tokens[-1], n - 1)[0]
        else:
            h = self._step.fill(torch.tensor([tokens]), min(context, n + self._n_tokens))[0, -1]
        self._length = n
        return self._head(h)


class BatchDecoder:
    """The same for the rows of several prompts, each with its own length and end.

    The model must be plain (see `is_plain`), and its weights must not change between calls.
    """

    def __init__(self, model: Transformer, n_tokens: int) -> None:
        self._model = model
        self._n_tokens = n_tokens
        self._head = head_product(model, n_tokens)
        self._step = TokenStep(model)
        self._rows: list[int] | None = None
        """The rows in the buffers of `_step`, None before the first call."""

    def __call__(self, rows: Mapping[int, list[int]]) -> Tensor:
        """Return the next token's logits [n, V] of each row: its number → all its tokens so far.

        A row that is left out has ended. Each row of the calls after the first has one token more than before.
        """
        context = self._model.config.context
        short = [row for row, tokens in rows.items() if len(tokens) <= context]
        outputs = dict(zip(short, self._cached(short, rows), strict=True)) if short else {}
        long = [row for row in rows if row not in outputs]
        if long:
            windows = torch.tensor([rows[row][-context:] for row in long])
            outputs |= dict(zip(long, self._model.layers_output(windows)[:, -1], strict=True))
        return self._head(torch.stack([outputs[row] for row in rows]))

    def _cached(self, short: list[int], rows: Mapping[int, list[int]]) -> Tensor:
        """Return the last layer's output [n, D] at the last token of rows within the context."""
        last = [len(rows[row]) - 1 for row in short]
        if self._rows is None:
            ids = torch.zeros((len(short), max(last) + 1), dtype=torch.long)
            for row, at in zip(short, ids, strict=True):
                at[: len(rows[row])] = torch.tensor(rows[row])
            capacity = min(self._model.config.context, max(last) + 1 + self._n_tokens)
            h = self._step.fill(ids, capacity)[torch.arange(len(short)), last]
        else:
            if short != self._rows:
                self._step.keep(torch.tensor([self._rows.index(row) for row in short]))
            h = self._step.several([rows[row][-1] for row in short], last)
        self._rows = short
        return h
