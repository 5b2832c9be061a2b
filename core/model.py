"""The transformer of the journal's appendix, one file, top to bottom.

    e    = W_E[x] + W_P                                     token and learned position embedding
    A_i  = softmax(q_i k_iᵀ / √v + causal mask) v_i         for each head i; q, k, v = e W_Q, e W_K, e W_V of size v
    l11  = LayerNorm(e + [A_1 … A_h] W_O)                   W_O from h·v to d
    l12  = ReLU(l11 W_1 + b_1) W_2 + b_2
    out  = LayerNorm(l11 + l12)                             k layers of this
    logits = out W + b                                      softmax only in the loss and when sampling

B batch, T time, S time with the cache, D d_model, H n_heads, V vocabulary, d d_head. The LayerNorm stands after
each residual sum (post-LN, Vaswani et al. 2017), and d is free of D.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.kernels.linear import Engine, Kernels, linear


@dataclass
class Cache:
    """Keys and values of the tokens seen so far, one pair a layer, each [B, H, S, d]."""

    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.layers[0][0].shape[2] if self.layers else 0


Named = dict[str, Tensor]
"""Named intermediates: "embedding", "layer0.attention" [B, H, T, S], "layer0.l11", "layer0.l12", "layer0.out"."""


def causal_mask(t: int, s: int, device: torch.device) -> Tensor:
    """True where query i, the last t of s positions, may look: [T, S]."""
    return torch.ones(t, s, dtype=torch.bool, device=device).tril(diagonal=s - t)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax(q kᵀ / √d) under the causal mask: q [B, H, T, d], k [B, H, S, d] → [B, H, T, S]; rows sum to one."""
    t, s, d = q.shape[2], k.shape[2], q.shape[3]
    scores = q @ k.transpose(2, 3) / math.sqrt(d)
    return scores.masked_fill(~causal_mask(t, s, q.device), -math.inf).softmax(dim=-1)


class Linear(nn.Linear):
    """torch's own, with a choice of who multiplies."""

    engine: Engine = "blas"

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias, self.engine)


class Attention(nn.Module):
    """Causal multi-head attention without biases."""

    fused: ClassVar[bool] = True
    """Whether torch's kernel may compute what `weights` does, where nobody needs the weights themselves."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.n_heads * config.d_head
        self.n_heads, self.d_head, self.dropout = config.n_heads, config.d_head, config.dropout
        self.W_Q = Linear(config.d_model, inner, bias=False)
        self.W_K = Linear(config.d_model, inner, bias=False)
        self.W_V = Linear(config.d_model, inner, bias=False)
        self.W_O = Linear(inner, config.d_model, bias=False)

    def split(self, projected: Tensor) -> Tensor:
        B, T, _ = projected.shape
        return projected.view(B, T, self.n_heads, self.d_head).transpose(1, 2)  # [B, H, T, d]

    def forward(
        self, e: Tensor, past: tuple[Tensor, Tensor] | None, named: Named | None, name: str
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        q, k, v = self.split(self.W_Q(e)), self.split(self.W_K(e)), self.split(self.W_V(e))  # [B, H, T, d]
        if past is not None:
            k, v = torch.cat([past[0], k], dim=2), torch.cat([past[1], v], dim=2)  # [B, H, S, d]
        heads = self.attend(q, k, v, past is not None, named, name)  # [B, H, T, d]
        return self.W_O(heads.transpose(1, 2).flatten(2)), (k, v)  # [B, T, D]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cached: bool, named: Named | None, name: str) -> Tensor:
        """The values each query attends to: q [B, H, T, d], k and v [B, H, S, d] → [B, H, T, d]."""
        rate = self.dropout if self.training else 0.0
        # A single query after a cache may look at everything that there is.
        if self.fused and named is None and rate == 0.0 and (not cached or q.shape[2] == 1):
            return F.scaled_dot_product_attention(q, k, v, is_causal=not cached)
        weights = self.weights(q, k)  # [B, H, T, S]
        if named is not None:
            named[name] = weights
        return F.dropout(weights, rate) @ v

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return attention_weights(q, k)


class Layer(nn.Module):
    """Attention, then feed-forward, each added to its input and normalised after the sum."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention = Attention(config)
        self.norm1 = nn.LayerNorm(config.d_model)
        self.W_1 = Linear(config.d_model, config.d_ff)
        self.W_2 = Linear(config.d_ff, config.d_model)
        self.norm2 = nn.LayerNorm(config.d_model)

    def forward(
        self, e: Tensor, past: tuple[Tensor, Tensor] | None, named: Named | None, name: str
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        attended, present = self.attention(e, past, named, f"{name}.attention")
        l11 = self.norm1(e + F.dropout(attended, self.dropout, self.training))  # [B, T, D]
        l12 = self.W_2(F.relu(self.W_1(l11)))  # [B, T, D]
        out = self.norm2(l11 + F.dropout(l12, self.dropout, self.training))  # [B, T, D]
        if named is not None:
            named |= {f"{name}.l11": l11, f"{name}.l12": l12, f"{name}.out": out}
        return out, present


class Transformer(nn.Module):
    """ids int64 [B, T] → logits float [B, T, V]. Raises ValueError when T exceeds the context."""

    def __init__(self, config: ModelConfig, n_vocab: int, *, seed: int = 0) -> None:
        super().__init__()
        self.config, self.n_vocab, self.dropout = config, n_vocab, config.dropout
        self.kernels = Kernels()
        self.W_E = nn.Embedding(n_vocab, config.d_model)
        self.W_P = nn.Embedding(config.context, config.d_model)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.n_layers))
        self.head = Linear(config.d_model, n_vocab)
        initialise(self, seed)

    def hidden(self, ids: Tensor, *, cache: Cache | None = None, named: Named | None = None) -> Tensor:
        """The last layer's output [B, T, D], before the projection; `cache` and `named` are filled in place."""
        T, start = ids.shape[1], cache.length if cache else 0
        if start + T > self.config.context:
            raise ValueError(f"{start + T} positions exceed the context of {self.config.context}")
        positions = torch.arange(start, start + T, device=ids.device)
        h = F.dropout(self.embed(ids, positions), self.dropout, self.training)  # [B, T, D]
        if named is not None:
            named["embedding"] = h
        presents = []
        for i, layer in enumerate(self.layers):
            h, present = layer(h, cache.layers[i] if start and cache else None, named, f"layer{i}")  # [B, T, D]
            presents.append(present)
        if cache is not None:
            cache.layers = presents
        return h

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Token and learned position embedding: ids [B, T], positions [T] → [B, T, D]."""
        e: Tensor = self.W_E(ids) + self.W_P(positions)
        return e

    def forward(self, ids: Tensor, *, cache: Cache | None = None, named: Named | None = None) -> Tensor:
        logits: Tensor = self.head(self.hidden(ids, cache=cache, named=named))  # [B, T, V]
        return logits

    def set_kernels(self, kernels: Kernels) -> None:
        """Who multiplies from now on."""
        self.kernels = kernels
        for module in self.modules():
            if isinstance(module, Linear):
                module.engine = kernels.engine

    def set_dropout(self, rate: float) -> None:
        """A new rate for every dropout of the model, from the next forward pass on."""
        for module in self.modules():
            if isinstance(module, Transformer | Layer | Attention):
                module.dropout = rate


@torch.no_grad()
def initialise(model: Transformer, seed: int) -> None:
    """Fill all parameters from one seeded generator, in the order of `named_parameters`.

    | parameter                 | value                                                         |
    |---------------------------|---------------------------------------------------------------|
    | W_E, W_P                  | normal, standard deviation 0.02 (Radford et al. 2018)         |
    | head.weight               | normal, of `head_std`: 0.02 as well, unless it is set         |
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
