"""The transformer of the journal's appendix, one file, top to bottom.

    e    = W_E[x] + W_P                                     token and learned position embedding
    A_i  = softmax(q_i k_iᵀ / √v + causal mask) v_i         for each head i; q, k, v = e W_Q, e W_K, e W_V of size v
    l11  = LayerNorm(e + [A_1 … A_h] W_O)                   W_O from h·v to d
    l12  = ReLU(l11 W_1 + b_1) W_2 + b_2
    out  = LayerNorm(l11 + l12)                             k layers of this
    logits = out W + b                                      softmax only in the loss and when sampling

Shapes: B batch, T time, S time including the cache, D d_model, H n_heads, V vocabulary, d d_head. LayerNorm comes after
each residual sum (post-LN, Vaswani et al. 2017), and d is independent of D.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.kernels.head_loss import head_loss_sum
from tui_lab.core.kernels.linear import Engine, Kernels, linear, prepacked_linear
from tui_lab.core.kernels.precision import Precision, autocast, widened

PREPACK_FROM_TOKENS = 32
"""Tokens to generate from which copying the head's weight into oneDNN's order pays off."""

FUSED_DROPOUT_DEVICES = ("cuda",)
"""Where torch's fused attention has dropout in its kernel; elsewhere torch computes the weights, as we do."""


@dataclass
class Cache:
    """Keys and values of the tokens so far, one pair per layer, each [B, H, S, d]."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0


def causal_mask(t: int, s: int, device: torch.device) -> Tensor:
    """Return bool [T, S], true where a query may look; the queries are the last t of s positions."""
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(diagonal=s - t)


class Linear(nn.Linear):
    """nn.Linear with a selectable library for the product (BLAS or oneDNN)."""

    engine: Engine = "blas"

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias, self.engine)


def fused_attention(q: Tensor, k: Tensor, v: Tensor, *, is_causal: bool, dropout: float = 0.0) -> Tensor:
    """Average the values by the attention weights with torch's kernel: q [B, H, T, d], k, v [B, H, S, d] → as q.

    dropout: the fraction of the weights set to zero.
    """
    if q.device.type == "cpu" and q.dtype in (torch.bfloat16, torch.float16):
        # The CPU kernel's backward pass takes nine times as long in bfloat16 (torch 2.13).
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=is_causal)
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=is_causal)


class AttentionWeights(nn.Module):
    """softmax(q kᵀ / √d) under the causal mask: q [B, H, T, d], k [B, H, S, d] → [B, H, T, S]; rows sum to one.

    To look at the weights of a model, register a forward hook on this module.
    """

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        t, s, d = q.shape[2], k.shape[2], q.shape[3]
        scores = q @ k.transpose(2, 3) / math.sqrt(d)
        return scores.masked_fill(~causal_mask(t, s, q.device), -math.inf).softmax(dim=-1)

    @property
    def must_be_computed(self) -> bool:
        """Whether a hook looks at the weights, or a subclass changes them."""
        return bool(self._forward_hooks) or type(self) is not AttentionWeights


class Attention(nn.Module):
    """Causal multi-head attention without biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.n_heads * config.d_head
        self.n_heads = config.n_heads
        self.d_head = config.d_head
        self.W_Q = Linear(config.d_model, inner, bias=False)
        self.W_K = Linear(config.d_model, inner, bias=False)
        self.W_V = Linear(config.d_model, inner, bias=False)
        self.weights = AttentionWeights()
        self.dropout = nn.Dropout(config.dropout)
        self.W_O = Linear(inner, config.d_model, bias=False)

    def forward(self, e: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = self.split(self.W_Q(e)), self.split(self.W_K(e)), self.split(self.W_V(e))  # [B, H, T, d]
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)  # [B, H, S, d]
        heads = self.attend(q, k, v, cached=past is not None)  # [B, H, T, d]
        return self.W_O(heads.transpose(1, 2).flatten(2)), (k, v)  # [B, T, D]

    def split(self, projected: Tensor) -> Tensor:
        B, T, _ = projected.shape
        return projected.view(B, T, self.n_heads, self.d_head).transpose(1, 2)  # [B, H, T, d]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, cached: bool) -> Tensor:
        """Average the values by the attention weights: q [B, H, T, d], k and v [B, H, S, d] → [B, H, T, d]."""
        rate = self.dropout.p if self.training else 0.0
        can_drop = rate == 0.0 or (rate < 1.0 and q.device.type in FUSED_DROPOUT_DEVICES)
        # torch's fused kernel is faster and never has the weights. A single query after a cache needs no mask.
        if can_drop and not self.weights.must_be_computed and (not cached or q.shape[2] == 1):
            return fused_attention(q, k, v, is_causal=not cached, dropout=rate)
        weighted: Tensor = self.dropout(self.weights(q, k)) @ v
        return weighted


class Layer(nn.Module):
    """Attention, then feed-forward, each added to its input and normalized after the sum."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.W_1 = Linear(config.d_model, config.d_ff)
        self.W_2 = Linear(config.d_ff, config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)

    def forward(self, e: Tensor, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.attention(e, past)
        l11 = self.norm1(e + self.dropout(attended))  # [B, T, D]
        l12 = self.W_2(F.relu(self.W_1(l11)))  # [B, T, D]
        out = self.norm2(l11 + self.dropout(l12))  # [B, T, D]
        return out, present


class Transformer(nn.Module):
    """ids int64 [B, T] → logits float [B, T, V]. Raises ValueError if T exceeds the context."""

    def __init__(self, config: ModelConfig, n_vocab: int, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.n_vocab = n_vocab
        self.kernels = Kernels()
        self.W_E = nn.Embedding(n_vocab, config.d_model)
        self.W_P = nn.Embedding(config.context, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.head = Linear(config.d_model, n_vocab)
        initialize(self, seed)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.hidden(ids)  # [B, T, D]
        with autocast(self.kernels.precision, ids.device):
            logits: Tensor = self.head(h)  # [B, T, V]
        return widened(logits)

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the last layer's output [B, T, D]. With a `cache`, ids continue its tokens and are added to it."""
        with autocast(self.kernels.precision, ids.device):
            return self.layers_output(ids, cache)

    def layers_output(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Return what `hidden` does, in the precision of the surrounding context instead of the model's."""
        T = ids.shape[1]
        start = cache.length if cache else 0
        if start + T > self.config.context:
            raise ValueError(f"{start + T} positions exceed the context of {self.config.context}")
        positions = torch.arange(start, start + T, device=ids.device)
        h: Tensor = self.dropout(self.W_E(ids) + self.W_P(positions))  # [B, T, D]
        presents = []
        for i, layer in enumerate(self.layers):
            h, present = layer(h, cache.layers[i] if cache and start else None)  # [B, T, D]
            presents.append(present)
        if cache is not None:
            cache.layers = presents
        return h

    def loss_sum(
        self,
        ids: Tensor,
        targets: Tensor,
        losses: TargetLosses | None = None,
        compute: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the summed cross-entropy in nats over the targets that are not ignored: int64 [B, T] both → [].

        losses: gets the loss of each target. compute: used in place of `hidden`, such as its compiled version.
        """
        h = (compute or self.hidden)(ids).flatten(0, 1)  # [B·T, D]
        return head_loss_sum(h, self.head.weight, self.head.bias, targets.flatten(), self.kernels, losses)

    def decoder(self, n_tokens: int, *, use_cache: bool = True) -> Callable[[list[int]], Tensor]:
        """Return a function from all tokens so far to the logits [V] of the next, for about `n_tokens` calls.

        It sees the last `context` tokens. The weights must not change between calls.
        """
        cache = Cache() if use_cache else None
        head: Callable[[Tensor], Tensor] = self.head
        if type(self.head) is Linear and n_tokens >= PREPACK_FROM_TOKENS:
            head = prepacked_linear(self.head.weight, self.head.bias, self.head.engine)

        def next_logits(tokens: list[int]) -> Tensor:
            # Positions are absolute: once the window slides, every key changes and the cache is of no use.
            past = cache if len(tokens) <= self.config.context else None
            new_tokens = tokens[-self.config.context :] if past is None else tokens[past.length :]
            h = self.hidden(torch.tensor([new_tokens], device=self.W_E.weight.device), past)  # [1, T, D]
            return head(h[0, -1])

        return next_logits

    def attention_modules(self) -> list[AttentionWeights]:
        """Return the module of each layer whose output is the attention weights."""
        return [layer.attention.weights for layer in self.layers]  # type: ignore[union-attr,misc]

    def train(self, mode: bool = True) -> Self:
        # Called before every step; visiting all modules costs a small model as much as a matrix product.
        return self if self.training == mode else super().train(mode)

    @property
    def precision(self) -> Precision:
        return self.kernels.precision

    def set_kernels(self, kernels: Kernels) -> None:
        """Select the kernels of the matrix products."""
        self.kernels = kernels
        for module in self.modules():
            if isinstance(module, Linear):
                # autocast changes what F.linear computes, not our call of oneDNN's float32 product.
                module.engine = kernels.engine if kernels.precision == "fp32" else "blas"


@torch.no_grad()
def initialize(model: Transformer, seed: int) -> None:
    """Fill all parameters from one seeded generator, in the order of `named_parameters`.

    | parameter                 | value                                                         |
    |---------------------------|---------------------------------------------------------------|
    | W_E, W_P                  | normal, standard deviation 0.02 (Radford et al. 2018)         |
    | head.weight               | normal, standard deviation `head_std`, 0.02 by default        |
    | W_Q, W_K, W_V, W_O, W_1, W_2 | uniform ±√(6 / (fan in + fan out)) (Glorot and Bengio 2010) |
    | LayerNorm weight          | 1                                                             |
    | every bias                | 0                                                             |
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        elif name.startswith(("W_E", "W_P", "head")):
            deviation = model.config.head_std if name.startswith("head") else 0.02
            parameter.normal_(0.0, deviation, generator=generator)
        else:
            bound = math.sqrt(6 / sum(parameter.shape))
            parameter.uniform_(-bound, bound, generator=generator)


_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def set_dropout(model: nn.Module, rate: float) -> None:
    """Set the rate of every dropout of any model, from the next forward pass on."""
    for module in model.modules():
        if isinstance(module, _DROPOUTS):
            module.p = rate
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = rate
