"""Generation: one token at a time, with its probability and what else might have been said."""

import codecs
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tui_lab.core.inference.sampling import Alternative, Generated, Sampling
from tui_lab.core.kernels.linear import prepacked_linear
from tui_lab.core.model import Cache, Linear, Transformer
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.tokenizers import Tokenizer, bytes_of
from tui_lab.util.errors import ConfigError

FIRST_LOOK = 256
PREPACK_FROM_TOKENS = 32
"""Tokens from which it pays to copy the head's weight into a faster order."""


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


@torch.inference_mode()
def next_logits(
    model: Model, tokens: list[int], cache: Cache | None, head: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Logits [V] after `tokens`, of which the last `context` are seen.

    Positions are learned and absolute, so once the window slides every key changes: the cache then serves no more.
    head: in place of a Transformer's own, [D] → [V].
    """
    device = next(model.parameters()).device
    context = model.config.context
    if not isinstance(model, Transformer):
        whole: Tensor = model(torch.tensor([tokens[-context:]], device=device))
        return whole[0, -1].float().cpu()
    if cache is not None and len(tokens) <= context:
        new = tokens[cache.length :]
        hidden = model.hidden(torch.tensor([new], device=device), cache=cache)
    else:
        hidden = model.hidden(torch.tensor([tokens[-context:]], device=device))
    return (head or model.head)(hidden[0, -1]).float().cpu()


def head_for(model: Model, n_tokens: int) -> Callable[[Tensor], Tensor] | None:
    """A faster head for `n_tokens` tokens to come, where the model's own is a plain product."""
    if not isinstance(model, Transformer) or type(model.head) is not Linear or n_tokens < PREPACK_FROM_TOKENS:
        return None
    with torch.inference_mode():
        return prepacked_linear(model.head.weight, model.head.bias, model.head.engine)


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
    cache, head = Cache() if use_cache else None, head_for(model, max_new_tokens)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for made in range(max_new_tokens):
        if stop():
            return
        logits = next_logits(model, tokens, cache, head)
        token = choose(logits, sampling, generator)
        tokens.append(token)
        own = logits.softmax(dim=0)
        yield Generated(
            token=token,
            text=decoder.decode(bytes_of(tokenizer, token), final=made == max_new_tokens - 1),
            probability=float(own[token]),
            alternatives=_likeliest(own, n_alternatives),
        )
