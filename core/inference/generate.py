"""Generation: one token at a time, with its probability and the likeliest alternatives."""

import codecs
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tui_lab.core.inference.sampling import Alternative, Generated, Sampling
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.tokenizers import Tokenizer, bytes_of
from tui_lab.util.errors import ConfigError

FEW = 256
"""The likeliest tokens that are searched first for a nucleus."""


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
        ids = nucleus(probabilities, sampling.top_p)
        probabilities = torch.zeros_like(probabilities).index_copy_(0, ids, probabilities[ids])
        probabilities /= probabilities.sum()
    return probabilities


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Return the next token for logits [V]."""
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    return draw(sampling_probabilities(logits, sampling), generator)


def nucleus(probabilities: Tensor, p: float) -> Tensor:
    """Return the smallest set of likeliest tokens whose probabilities sum to p: [V] → ids [n], the likeliest first.

    Searches the likeliest few first: sorting a whole vocabulary takes longer than running the model.
    """
    V = len(probabilities)
    for n in (min(FEW, V), V):
        sorted_probabilities, ids = probabilities.topk(n) if n < V else probabilities.sort(descending=True)
        before = sorted_probabilities.cumsum(dim=0) - sorted_probabilities
        if before[-1] >= p:
            break
    return ids[before < p]


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
    tokens = [int(token) for token in tokenizer.encode(prompt)]
    if not tokens:
        raise ConfigError.of("missing", "must have at least one character", key="prompt", value=prompt)
    model.eval()
    with torch.inference_mode():
        decoder = model.decoder(max_new_tokens, use_cache=use_cache)

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
    row = list(tokens)
    generator = torch.Generator().manual_seed(sampling.seed)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for i in range(max_new_tokens):
        if stop():
            return
        logits = next_logits(row)
        token = choose(logits, sampling, generator)
        row.append(token)
        probabilities = logits.softmax(dim=0)
        yield Generated(
            token=token,
            text=decoder.decode(bytes_of(tokenizer, token), final=i == max_new_tokens - 1),
            probability=float(probabilities[token]),
            alternatives=_likeliest(probabilities, n_alternatives),
        )
