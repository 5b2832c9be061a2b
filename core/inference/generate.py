"""Generation: one token at a time, with its probability and what else might have been said."""

import codecs
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tui_lab.core.inference.sampling import Alternative, Generated, Sampling
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.tokenizers import Tokenizer, bytes_of
from tui_lab.util.errors import ConfigError

FIRST_LOOK = 256


def sampling_probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """logits [V] to the probabilities [V] that are drawn from: temperature, then top-k, then top-p.

    top-p keeps the smallest set of likeliest tokens whose mass reaches p (Holtzman et al. 2020, nucleus sampling).
    """
    if sampling.temperature == 0.0:
        return torch.zeros_like(logits).scatter_(0, logits.argmax(keepdim=True), 1.0)
    # Subtracting the maximum first keeps a tiny temperature from making infinity out of a finite logit.
    scaled = (logits - logits.max()) / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        least = scaled.topk(sampling.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    probabilities = scaled.softmax(dim=0)
    if sampling.top_p < 1.0:
        ids = nucleus(probabilities, sampling.top_p)
        probabilities = torch.zeros_like(probabilities).index_copy_(0, ids, probabilities[ids])
        probabilities /= probabilities.sum()
    return probabilities


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token for logits [V]."""
    if sampling.temperature == 0.0:
        return int(logits.argmax())
    return draw(sampling_probabilities(logits, sampling), generator)


def nucleus(probabilities: Tensor, p: float) -> Tensor:
    """Ids of the smallest set of likeliest tokens whose mass reaches p: probabilities [V] → [n], the likeliest first.

    Looks among the likeliest few first: to order a whole vocabulary takes longer than to run the model.
    """
    for looked in (min(FIRST_LOOK, len(probabilities)), len(probabilities)):
        found, ids = probabilities.topk(looked) if looked < len(probabilities) else probabilities.sort(descending=True)
        before = found.cumsum(dim=0) - found
        if before[-1] >= p:
            break
    return ids[before < p]


def draw(probabilities: Tensor, generator: torch.Generator) -> int:
    """One token by the inverse of the cumulative distribution (Devroye 1986, section III.2): one random number."""
    cumulative = probabilities.cumsum(dim=0, dtype=torch.float64)
    at = torch.rand((), dtype=torch.float64, generator=generator) * cumulative[-1]
    # Right: a token of probability zero takes up no room, so it is never hit.
    return int(torch.searchsorted(cumulative, at, right=True).clamp(max=len(probabilities) - 1))


def _likeliest(probabilities: Tensor, n: int) -> tuple[Alternative, ...]:
    if n == 0:
        return ()
    found = probabilities.topk(min(n, len(probabilities)))
    return tuple(Alternative(i, p) for i, p in zip(found.indices.tolist(), found.values.tolist(), strict=True))


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
    """Tokens that follow `prompt`, until `max_new_tokens` or `stop()`. Raises ConfigError for an empty prompt.

    The model is left in evaluation mode. The draws come from a generator of their own, so that neither a training
    beside it nor an earlier call changes what a seed gives. n_alternatives: how many likeliest tokens come with each.
    """
    tokens = [int(token) for token in tokenizer.encode(prompt)]
    if not tokens:
        raise ConfigError(["prompt = '': at least one character is needed to start from"])
    model.eval()
    generator = torch.Generator().manual_seed(sampling.seed)
    with torch.inference_mode():
        next_logits = model.decoder(max_new_tokens, use_cache=use_cache)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for made in range(max_new_tokens):
        if stop():
            return
        with torch.inference_mode():
            logits = next_logits(tokens).float().cpu()
        token = choose(logits, sampling, generator)
        tokens.append(token)
        own = logits.softmax(dim=0)
        yield Generated(
            token=token,
            text=decoder.decode(bytes_of(tokenizer, token), final=made == max_new_tokens - 1),
            probability=float(own[token]),
            alternatives=_likeliest(own, n_alternatives),
        )
