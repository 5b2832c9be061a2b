"""A transformer's products for one new token of each row: what generation spends its time in.

It computes what `Transformer.hidden` does with a cache, in few calls of torch, which for a small model take as long as
its arithmetic: one product for queries, keys and values, and buffers of the final length for the keys and values, which
`Transformer.hidden` copies for each token.

With bfloat16, only the head is computed in it, whose weights are most of what is read for a token. The layers' products
are small; a bfloat16 product of one row takes longer than one in float32, and is less exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.kernels.linear import (
    SMALLEST_WITHOUT_GRADIENT,
    Engine,
    linear,
    onednn_has_bf16,
    onednn_linear,
    prepacked_linear,
)
from tui_lab.core.model import PREPACK_FROM_TOKENS, Attention, Cache, Layer, Linear, Transformer

Product = Callable[[Tensor], Tensor]
_PLAIN = (Transformer, Layer, Attention, Linear, nn.LayerNorm, nn.Embedding, nn.Dropout, nn.ModuleList)
FUSED_MULTIPLE = 16
"""The size of which heads × d_head must be a multiple for one product of queries, keys and values.

For others BLAS computes single products in another order of summation."""


def is_plain(model: Transformer) -> bool:
    """Return whether a `TokenStep` computes what the modules would: on the CPU, without hooks, faults or subclasses."""
    if model.W_E.weight.device.type != "cpu" or model.precision == "fp16" or type(model.layers) is not nn.ModuleList:
        return False
    weights = set(model.attention_modules())
    return not any(module.must_be_computed for module in weights) and all(
        (type(module) in _PLAIN or module in weights)
        and not (module.training or module._forward_hooks or module._forward_pre_hooks)
        for module in model.modules()
    )


def head_product(model: Transformer, n_tokens: int) -> Product:
    """Return the function h [..., D] → logits [..., V] for about `n_tokens` calls, prepared if that pays off."""
    weight, bias = model.head.weight.detach(), model.head.bias.detach()
    if model.precision == "bf16":
        weight16, bias16 = weight.bfloat16(), bias.bfloat16()
        if not onednn_has_bf16():
            return lambda h: F.linear(h.bfloat16(), weight16, bias16).float()
        if n_tokens >= PREPACK_FROM_TOKENS:
            weight16 = torch.ops.mkldnn._reorder_linear_weight(weight16)
        return lambda h: onednn_linear(h.bfloat16(), weight16, bias16).float()
    if n_tokens >= PREPACK_FROM_TOKENS:
        return prepacked_linear(weight, bias, model.head.engine)
    return lambda h: linear(h, weight, bias, model.head.engine)


def _product(weight: Tensor, bias: Tensor | None, engine: Engine) -> Product:
    return lambda x: linear(x, weight, bias, engine)


def _qkv_product(attention: Attention) -> Product:
    """Return the function e [B, D] → queries, keys, values [B, 3·H·d]."""
    modules = (attention.W_Q, attention.W_K, attention.W_V)
    weight = torch.cat([module.weight.detach() for module in modules])
    one_kind = attention.W_Q.engine == "blas" or weight.numel() < SMALLEST_WITHOUT_GRADIENT
    if one_kind and len(weight) % (3 * FUSED_MULTIPLE) == 0:
        return _product(weight, None, attention.W_Q.engine)
    return lambda e: torch.cat([module(e) for module in modules], dim=-1)


def _of(module: Linear) -> Product:
    bias = None if module.bias is None else module.bias.detach()
    return _product(module.weight.detach(), bias, module.engine)


@dataclass(frozen=True)
class _LayerProducts:
    qkv: Product
    out: Product
    first: Product
    second: Product
    norm1: Product
    norm2: Product

    def after_attention(self, e: Tensor, heads: Tensor) -> Tensor:
        """Return the layer's output for its input and the output of its heads: [..., D], [..., H·d] → [..., D]."""
        l11 = self.norm1(e + self.out(heads))
        out: Tensor = self.norm2(l11 + self.second(self.first(l11).relu_()))
        return out

    @classmethod
    def of(cls, layer: Layer) -> "_LayerProducts":
        return cls(
            qkv=_qkv_product(layer.attention),
            out=_of(layer.attention.W_O),
            first=_of(layer.W_1),
            second=_of(layer.W_2),
            norm1=_norm(layer.norm1),
            norm2=_norm(layer.norm2),
        )


def _norm(module: nn.LayerNorm) -> Product:
    shape = module.normalized_shape
    weight = module.weight
    bias = module.bias
    eps = module.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, eps)


class TokenStep:
    """The layers of a plain model, in evaluation mode, for B rows that share buffers of `capacity` positions.

    The weights must not change as long as it is used.
    """

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._layers = [_LayerProducts.of(layer) for layer in model.layers]  # type: ignore[arg-type]
        self._kv: list[Tensor] = []
        """Keys and values of each layer, each [B, 2·H, capacity, d]."""

    @property
    def capacity(self) -> int:
        return self._kv[0].shape[2] if self._kv else 0

    def fill(self, ids: Tensor, capacity: int) -> Tensor:
        """Start the rows with their prompts, padded at the end: int64 [B, T] → the last layer's output [B, T, D]."""
        cache = Cache()
        h = self._model.layers_output(ids, cache)
        B, H, T, d = cache.layers[0][0].shape
        # Zeros, since a row reads the others' positions as well: their weight is zero, but 0 times NaN is NaN.
        self._kv = [keys.new_zeros((B, 2 * H, capacity, d)) for keys, _ in cache.layers]
        for buffer, (keys, values) in zip(self._kv, cache.layers, strict=True):
            buffer[:, :H, :T] = keys
            buffer[:, H:, :T] = values
        return h

    def keep(self, rows: Tensor) -> None:
        """Keep only some of the rows: int64 [n]."""
        self._kv = [buffer[rows] for buffer in self._kv]

    def one(self, token: int, position: int) -> Tensor:
        """Return the last layer's output [1, D] for the next token of the only row."""
        e = self._model.W_E.weight[token : token + 1] + self._model.W_P.weight[position : position + 1]

        def store(buffer: Tensor, new: Tensor) -> Tensor:
            buffer.select(2, position).copy_(new)
            return buffer.narrow(2, 0, position + 1)

        return self._hidden(e, store, None)

    def several(self, tokens: list[int], positions: list[int]) -> Tensor:
        """Return the last layer's output [B, D] for the next token of each row."""
        rows = torch.arange(len(tokens))
        at = torch.tensor(positions)  # [B]
        longest = max(positions) + 1
        e = self._model.W_E.weight[torch.tensor(tokens)] + self._model.W_P.weight[at]
        visible = torch.arange(longest) <= at[:, None]  # [B, S]

        def store(buffer: Tensor, new: Tensor) -> Tensor:
            buffer[rows, :, at] = new
            return buffer.narrow(2, 0, longest)

        return self._hidden(e, store, visible[:, None, None])

    def _hidden(self, e: Tensor, store: Callable[[Tensor, Tensor], Tensor], mask: Tensor | None) -> Tensor:
        """Return the output [B, D] for embeddings e [B, D].

        store: puts new keys and values [B, 2·H, d] into a layer's buffer and returns what is filled of it. mask: bool
        [B, 1, 1, S], None if each row sees all S positions.
        """
        B, H, d = len(e), self._model.config.n_heads, self._model.config.d_head
        for layer, buffer in zip(self._layers, self._kv, strict=True):
            qkv = layer.qkv(e).view(B, 3 * H, d)
            keys, values = store(buffer, qkv[:, H:]).chunk(2, dim=1)  # [B, H, S, d]
            heads = F.scaled_dot_product_attention(qkv[:, :H, None], keys, values, attn_mask=mask)  # [B, H, 1, d]
            e = layer.after_attention(e, heads.view(B, H * d))
        return e
