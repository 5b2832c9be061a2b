"""Generation: one token at a time, with its probability and the likeliest alternatives."""

import codecs
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tui_lab.core.inference.decoder import BatchDecoder, decoder_of
from tui_lab.core.inference.sampling import Alternative, Generated, Sampling
from tui_lab.core.inference.token_step import is_plain
from tui_lab.core.model import Transformer
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.tokenizers import Tokenizer, bytes_of
from tui_lab.util.errors import ConfigError

MOST_ROWS = 64
"""Rows that are generated at once, at most: their keys and values are kept."""


def sampling_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return the probabilities [V] to draw from, for logits [V]: temperature, then top-k, then top-p.

    top-p keeps the smallest set of likeliest tokens whose probabilities sum to p (Holtzman et al. 2020, nucleus
    sampling).
    """
    if sampling.temperature == 0.0:
        return torch.zeros_like(logits).scatter_(0, logits.argmax(keepdim=True), 1.0)
    # The maximum is subtracted first: a tiny temperature could make a finite logit infinite.
    scaled = (logits - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        smallest = scaled.topk(sampling.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < smallest, -torch.inf)
    probabilities = scaled.softmax(dim=0)
    if sampling.top_p < 1.0:
        probabilities = probabilities.where(nucleus(probabilities, sampling.top_p), 0.0)
        probabilities /= probabilities.sum()
    return probabilities


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Return the next token for logits [V]."""
    if sampling.temperature == 0.0:
        return int(logits.numpy().argmax())  # A tenth of the time of torch's.
    return draw(sampling_probabilities(logits, sampling), generator)


def nucleus(probabilities: Tensor, p: float) -> Tensor:
    """Return bool [V]: the smallest set of likeliest tokens whose probabilities [V] sum to p.

    Of equally likely tokens, those with lower ids come first. Sorting a whole vocabulary takes longer than running the
    model, so tokens are counted by the first bits of their probabilities (the exponent and 7 bits of the mantissa), and
    only those are sorted that share these bits with the least likely token of the set.
    """
    bits = (probabilities.float().view(torch.int32) >> 16) & 0x7FFF  # [V], in the order of the probabilities.
    reached = torch.bincount(bits, weights=probabilities.double()).flip(0).cumsum(dim=0)  # The likeliest first.
    i = min(int(torch.searchsorted(reached, p)), len(reached) - 1)
    border = len(reached) - 1 - i
    candidates = (bits == border).nonzero()[:, 0]  # [n]
    ordered, order = probabilities[candidates].double().sort(descending=True, stable=True)
    before = ordered.cumsum(dim=0) - ordered + (reached[i - 1] if i else 0.0)
    kept = bits > border
    kept[candidates[order[before < p]]] = True
    return kept


def draw(probabilities: Tensor, generator: torch.Generator) -> int:
    """Draw one token by inverting the cumulative distribution (Devroye 1986, section III.2), with one random number."""
    cumulative = probabilities.cumsum(dim=0, dtype=torch.float64)
    position = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
    # From the right, so that a token of probability zero is never drawn.
    return int(torch.searchsorted(cumulative, position, right=True).clamp(max=len(probabilities) - 1))


def _likeliest(probabilities: Tensor, n: int) -> tuple[Alternative, ...]:
    if n == 0:
        return ()
    top = probabilities.topk(min(n, len(probabilities)))
    return tuple(Alternative(i, p) for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True))


def generate(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    sampling: Sampling,
    use_cache: bool = True,
    n_alternatives: int = 5,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Generated]:
    """Generate the tokens after `prompt`, until `max_new_tokens` or `stop()`. Raises ConfigError for an empty prompt.

    Leaves the model in evaluation mode. The draws have their own generator, so that a seed gives the same tokens
    whatever else draws at the same time. n_alternatives: how many likeliest tokens come with each token.
    """
    tokens = _encode(tokenizer, prompt)
    model.eval()
    with torch.inference_mode():
        decoder = decoder_of(model, max_new_tokens, use_cache=use_cache)

    def next_logits(row: list[int]) -> Tensor:
        with torch.inference_mode():
            return decoder(row).float().cpu()

    yield from continue_row(
        next_logits,
        tokenizer,
        tokens,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        n_alternatives=n_alternatives,
        stop=stop,
    )


def _encode(tokenizer: Tokenizer, prompt: str) -> list[int]:
    tokens = [int(token) for token in tokenizer.encode(prompt)]
    if not tokens:
        raise ConfigError.of("missing", "must have at least one character", key="prompt", value=prompt)
    return tokens


def continue_row(
    next_logits: Callable[[list[int]], Tensor],
    tokenizer: Tokenizer,
    tokens: list[int],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    n_alternatives: int = 5,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Generated]:
    """Generate the tokens after `tokens` as `generate` does, with any function from all tokens so far to logits [V]."""
    row = _Row(tokenizer, tokens, max_new_tokens, sampling, n_alternatives)
    while row.missing > 0 and not stop():
        yield row.add(next_logits(row.tokens))


class _Row:
    """One row of tokens and what its next token depends on besides the model."""

    def __init__(
        self, tokenizer: Tokenizer, tokens: list[int], missing: int, sampling: Sampling, n_alternatives: int
    ) -> None:
        self.tokens = list(tokens)
        self.missing = missing
        """How many tokens are still to be generated."""
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._n_alternatives = n_alternatives
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, logits: Tensor) -> Generated:
        """Choose the next token by its logits [V] and append it."""
        token = choose(logits, self._sampling, self._generator)
        self.tokens.append(token)
        self.missing -= 1
        probabilities = logits.softmax(dim=0)
        return Generated(
            token=token,
            text=self._decoder.decode(bytes_of(self._tokenizer, token), final=self.missing == 0),
            probability=float(probabilities[token]),
            alternatives=_likeliest(probabilities, self._n_alternatives),
        )


def generate_batch(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    max_new_tokens: Sequence[int],
    sampling: Sampling,
    n_alternatives: int = 0,
) -> list[list[Generated]]:
    """Generate after several prompts at once what `generate` does after each, except for rounding errors.

    max_new_tokens: of each prompt. Each draws with its own generator, all with the same seed. A model that is not the
    built-in transformer generates one after the other. Raises ConfigError for an empty prompt.
    """
    pairs = zip(prompts, max_new_tokens, strict=True)
    rows = [_Row(tokenizer, _encode(tokenizer, prompt), n, sampling, n_alternatives) for prompt, n in pairs]
    model.eval()
    if not (isinstance(model, Transformer) and is_plain(model)):
        return [
            list(generate(model, tokenizer, prompt, max_new_tokens=n, sampling=sampling, n_alternatives=n_alternatives))
            for prompt, n in zip(prompts, max_new_tokens, strict=True)
        ]
    generated: list[list[Generated]] = [[] for _ in rows]
    for start in range(0, len(rows), MOST_ROWS):
        _finish(model, rows[start : start + MOST_ROWS], generated[start : start + MOST_ROWS])
    return generated


@torch.inference_mode()
def _finish(model: Transformer, rows: Sequence[_Row], generated: Sequence[list[Generated]]) -> None:
    """Generate all missing tokens of the rows, and append them to the lists."""
    decoder = BatchDecoder(model, max(row.missing for row in rows))
    while unfinished := {i: row.tokens for i, row in enumerate(rows) if row.missing > 0}:
        for i, logits in zip(unfinished, decoder(unfinished), strict=True):
            generated[i].append(rows[i].add(logits))
