"""Generation with a script's own model: the plain forward of all tokens so far, without a cache."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from tui_lab.core import commands as cmd
from tui_lab.core.inference.generate import continue_row
from tui_lab.core.inference.sampling import Generated, Sampling
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.errors import ConfigError

SAFE_CONTEXT = 64
"""Tokens of a row on an accelerator where the context is unknown: a position that is out of range ends the process."""

Forward = Callable[[Tensor], Any]


def generate_plain(
    forward: Forward,
    encode: Callable[[str], list[int]],
    tokenizer: Tokenizer,
    request: cmd.Generate,
    context: int | None,
    device: torch.device,
    stop: Callable[[], bool] = lambda: False,
    n_vocab: int | None = None,
) -> Iterator[Generated]:
    """Generate the tokens after the prompt of `request`, until its number of tokens or `stop()`.

    forward: from ids int64 [1, t] to logits [1, t, V] or [1, 1, V], also in a tuple, a dict or an object; the model
    must be in evaluation mode. context: the longest row, None if unknown; then it is found by trying. n_vocab: the ids
    that the model takes are below it; None: below its number of logits. Draws no global random number. Raises
    ConfigError, at the first token, for a prompt that cannot be encoded or has tokens that the model does not, and for
    a model that fails, needs more arguments or returns no logits.
    """
    sampling = Sampling(request.temperature, request.top_k, request.top_p, request.seed)
    tokens = _encoded(encode, request.prompt)
    if context is None and device.type != "cpu":
        context = SAFE_CONTEXT
    next_logits = _NextLogits(forward, context, device)
    _check_ids(tokens, request.prompt, next_logits.n_vocab() if n_vocab is None else n_vocab)
    yield from continue_row(
        next_logits, tokenizer, tokens, max_new_tokens=request.max_new_tokens, sampling=sampling, stop=stop
    )


def _encoded(encode: Callable[[str], list[int]], prompt: str) -> list[int]:
    try:
        tokens = [int(token) for token in encode(prompt)]
    except Exception as error:
        message = f"the script's tokenizer cannot encode it: {_described(error)}"
        raise ConfigError.of("invalid", message, key="prompt", value=prompt) from error
    if not tokens:
        raise ConfigError.of("missing", "must have at least one token", key="prompt", value=prompt)
    return tokens


def _check_ids(tokens: list[int], prompt: str, n_vocab: int | None) -> None:
    """An id that the model has no embedding for would end a process on an accelerator."""
    outside = [token for token in tokens if token < 0 or (n_vocab is not None and token >= n_vocab)]
    if outside:
        allowed = f"0 to {n_vocab - 1:,}" if n_vocab is not None else "0 or more"
        message = f"token {outside[0]:,} is not in the model's vocabulary"
        raise ConfigError.of("invalid", message, key="prompt", value=prompt, allowed=allowed)


class _NextLogits:
    """From all tokens so far to the logits [V] of the next, on the CPU."""

    def __init__(self, forward: Forward, context: int | None, device: torch.device) -> None:
        self._forward = forward
        self._context = context
        self._device = device
        self._is_padded = False
        """Whether the model takes only rows of the whole context."""

    def n_vocab(self) -> int | None:
        """Return the number of logits, None if the model does not take a row of one token."""
        try:
            return len(self._logits([0]))
        except Exception:
            return None

    def __call__(self, tokens: list[int]) -> Tensor:
        row = tokens[-self._context :] if self._context is not None else tokens
        try:
            logits = self._logits(row)
        except ConfigError:
            raise
        except Exception as error:
            logits = self._logits_of_another_length(row, error)
        if logits.isnan().any() or logits.isposinf().any():
            raise ConfigError.of("user_code", "the logits are not finite: the training has diverged", key="model")
        return logits

    @torch.no_grad()
    def _logits(self, row: list[int]) -> Tensor:
        """Run the model. Gradients are off, but not by inference mode: what the model keeps must stay trainable."""
        missing = self._context - len(row) if self._is_padded and self._context is not None else 0
        ids = torch.tensor([row + [0] * missing], dtype=torch.long, device=self._device)
        with unchanged_rng():
            output = self._forward(ids)
        return _at(logits_in(output), ids.shape[1], len(row) - 1).float().cpu()

    def _logits_of_another_length(self, row: list[int], error: Exception) -> Tensor:
        """Try the whole context with padding at the end, or the longest end of the row that works."""
        if self._context is not None and len(row) < self._context and not self._is_padded:
            self._is_padded = True
            try:
                return self._logits(row)
            except Exception:
                self._is_padded = False
        longest = self._longest_length(row) if self._context is None and not _needs_arguments(error) else 0
        if longest == 0:
            raise ConfigError.of("user_code", _reason(error), key="model") from error
        self._context = longest
        return self._logits(row[-longest:])

    def _longest_length(self, row: list[int]) -> int:
        """Return the largest length below that of `row` that works, 0 if none does, by bisection."""
        works, fails = 0, len(row)
        while fails - works > 1:
            # The first try is one token less: usually the row has just grown too long.
            length = fails - 1 if fails == len(row) else (works + fails) // 2
            try:
                self._logits(row[-length:])
                works = length
            except Exception:
                fails = length
        return works


def logits_in(output: Any) -> Tensor:
    """Return the logits in what a model returns: a tensor, or the first with three dimensions of a collection."""
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    values = list(output.values()) if isinstance(output, Mapping) else output
    if isinstance(values, tuple | list):
        tensors = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
        tensors.sort(key=lambda tensor: tensor.dim() != 3)
        if tensors and tensors[0].dim() >= 2:
            return tensors[0]
    raise ConfigError.of("user_code", f"it returned {type(output).__name__}, which has no logits", key="model")


def _at(logits: Tensor, T: int, position: int) -> Tensor:
    """Return the logits [V] at a position of [1, T, V], [T, V], [1, V, T], or of the last one alone [1, 1, V]."""
    shape = list(logits.shape)
    if logits.dim() == 2:
        logits = logits[None]
    if logits.dim() != 3 or len(logits) != 1 or not logits.is_floating_point():
        message = f"it returned {logits.dtype} {shape} for ids [1, {T}]"
        raise ConfigError.of("user_code", message, key="model", allowed=f"logits [1, {T}, V] or [1, 1, V]")
    if logits.shape[1] not in (1, T) and logits.shape[2] == T:
        logits = logits.transpose(1, 2)
    return logits[0, position if logits.shape[1] == T else -1]


def _needs_arguments(error: Exception) -> bool:
    return isinstance(error, TypeError) and "argument" in str(error)


def _reason(error: Exception) -> str:
    if _needs_arguments(error):
        arguments = ", ".join(re.findall(r"'(\w+)'", str(error))) or str(error)
        return f"it needs more than the ids of the tokens: {arguments}. Text can be generated if that has a default"
    return f"its forward pass fails: {_described(error)}"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
