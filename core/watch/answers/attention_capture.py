"""The attention weights of any model: what its softmaxes and scaled dot products compute in one forward.

A TorchFunctionMode sees the calls of `scaled_dot_product_attention`, `softmax` and `multi_head_attention_forward`. Each
runs as it is; the weights of the fused ones are computed a second time.
"""

import inspect
import math
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.example import MOST_WEIGHTS, in_blocks
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng

MAX_CHUNK = 2**22
"""Weights of one head that are computed at a time: 16 MiB."""
_SOFTMAXES: frozenset[Any] = frozenset((F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax))
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


def capture_attention(
    call: Callable[[], object], row: int = 0, batch_size: int | None = None, max_weights: int = MOST_WEIGHTS
) -> AttentionMaps | str:
    """Run `call`, a forward of the model in evaluation mode, and return the attention weights of one row of its batch.

    Returns why there are none, as a sentence, if the forward fails, or if no layer computes square maps, or if layers
    have different numbers of heads. Where each head is a module of its own, those with the same input are the heads of
    one layer. batch_size: the rows that `call` passes to the model; None: the first dimension of the first tensor that
    a module is called with. Runs without gradients and leaves the random numbers as they are.
    """
    capture = _Capture(row, batch_size, max_weights)
    try:
        with torch.no_grad(), unchanged_rng(), without_compiled_code(), _module_inputs(capture), capture:
            call()
    except Exception as error:
        return f"The forward pass failed: {type(error).__name__}: {error}"
    return capture.maps()


@contextmanager
def without_compiled_code() -> Iterator[None]:
    """Run the Python code of compiled modules, which a mode can see."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        # Our hooks also run for the wrapper of a compiled module, which has the same input.
        warnings.filterwarnings("ignore", message="Using `torch.compile", category=UserWarning)
        yield


@contextmanager
def _module_inputs(capture: "_Capture") -> Iterator[None]:
    """Give the input of each module to `capture` while it runs; a model may run in another thread, too."""
    thread = threading.get_ident()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:
            capture.enter_module(module, next((each for each in args if isinstance(each, Tensor)), None))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            capture.leave_module()

    handles = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a module, and the first tensor that it was called with."""

    x: Tensor | None


@dataclass
class _Layer:
    """The maps [H, n, n] of one layer, and the module call that computed the last of them."""

    maps: Tensor
    T: int
    call: _Call | None
    is_certain: bool
    is_single: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_single = len(self.maps) == 1

    def continues_with(self, call: _Call | None, T: int) -> bool:
        """Return whether a single head of another call of a module is one more head of this layer.

        It is if both have the same input.
        """
        if not self.is_single or self.call is None or call is None or T != self.T:
            return False
        return call is not self.call and call.x is not None and call.x is self.call.x


class _Capture(TorchFunctionMode):
    """Sees every call of a function of torch, and keeps the attention weights of one row, reduced to blocks."""

    def __init__(self, row: int, batch_size: int | None, max_weights: int) -> None:
        super().__init__()
        self._row = row
        self._batch_size = batch_size
        self._max_weights = max_weights
        self._calls: list[_Call] = []
        """The module calls that have not ended, the outermost first."""
        self._layers: list[_Layer] = []
        self._block = 1
        self._problem = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        try:
            if func in _SOFTMAXES:
                self._see_softmax(result, kwargs.get("dim", args[1] if len(args) > 1 else None))
            elif func is F.scaled_dot_product_attention:
                self._see_scaled_dot_product(*args, **kwargs)
            elif func is F.multi_head_attention_forward:
                self._see_multi_head(*args, **kwargs)
        except Exception as error:
            self._problem = f"{type(error).__name__}: {error}"
        return result

    def enter_module(self, module: nn.Module, x: Tensor | None) -> None:
        # A softmax that is a module belongs to the head that calls it.
        is_part = isinstance(module, nn.Softmax) and self._calls
        self._calls.append(self._calls[-1] if is_part else _Call(x))
        if self._batch_size is None and x is not None:
            self._batch_size = len(x) if x.dim() > 1 else 1

    def leave_module(self) -> None:
        if self._calls:
            self._calls.pop()

    def maps(self) -> AttentionMaps | str:
        """Return all layers together, or why that is not possible."""
        # Softmaxes of other things, as of experts, could have the same shape as weights without heads.
        certain = [layer for layer in self._layers if layer.is_certain] or self._layers
        if not certain:
            reason = f" ({self._problem})" if self._problem else ""
            return f"No attention weights were seen: the model has no softmax over [T, T] scores{reason}."
        T = Counter(layer.T for layer in certain).most_common(1)[0][0]
        layers = [layer for layer in certain if layer.T == T]
        heads = sorted({len(layer.maps) for layer in layers})
        if len(heads) > 1:
            return f"The layers have different numbers of heads: {', '.join(map(str, heads))}."
        weights = torch.stack([layer.maps for layer in layers]).cpu().numpy()  # [L, H, n, n]
        weights.flags.writeable = False
        return AttentionMaps(weights, T, self._block)

    def _see_softmax(self, weights: Tensor, dim: int | None) -> None:
        """weights: [B, H, T, T], [B·H, T, T] or [B, T, T]; other shapes and dimensions are not attention."""
        T = weights.shape[-1] if weights.dim() >= 3 else 0
        if T < 2 or weights.shape[-2] != T or dim not in (-1, weights.dim() - 1):
            return
        heads = self._heads_of_row(weights)
        if heads is not None:
            self._add(in_blocks(heads.float(), self._block), T, is_certain=weights.dim() > 3)

    def _see_scaled_dot_product(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        """softmax(q kᵀ · scale + mask) of q [B, H, T, d] or [B·H, T, d], as torch documents it."""
        T = query.shape[-2]
        q = self._heads_of_row(query)
        k = self._heads_of_row(key)
        if q is None or k is None or key.shape[-2] != T or T < 2:
            return
        mask = None
        if attn_mask is not None:
            mask = self._heads_of_row(attn_mask.broadcast_to((*query.shape[:-1], T)))
        k = k.repeat_interleave(len(q) // len(k), dim=0) if enable_gqa else k
        q = q.float() * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        masks = mask if mask is not None else [None] * len(q)
        maps = [_weights(*head, is_causal, self._block) for head in zip(q, k.float(), masks, strict=True)]
        self._add(torch.stack(maps), T, is_certain=True)

    def _see_multi_head(self, *args: Any, **kwargs: Any) -> None:
        """Run F.multi_head_attention_forward for one row again, this time with the weights."""
        bound = _MULTI_HEAD.bind(*args, **kwargs)
        bound.apply_defaults()
        values = bound.arguments
        if values["query"].shape[0] != values["key"].shape[0] or values["query"].shape[0] < 2:
            return
        values |= {"need_weights": True, "average_attn_weights": False, "training": False, "dropout_p": 0.0}
        if values["query"].dim() == 3:
            self._select_row(values)
        weights = F.multi_head_attention_forward(*bound.args, **bound.kwargs)[1]
        assert weights is not None
        T, S = weights.shape[-2:]
        if T == S:  # There is one key more with a bias or a zero among the keys.
            self._add(in_blocks(weights.reshape(-1, T, T).float(), self._block), T, is_certain=True)

    def _select_row(self, values: dict[str, Any]) -> None:
        """Reduce the arguments of F.multi_head_attention_forward to one row: query [T, B, E]."""
        B = values["query"].shape[1]
        rows = slice(self._row, self._row + 1) if self._row < B else slice(0, 1)
        for name in ("query", "key", "value"):
            values[name] = values[name][:, rows]
        if values["key_padding_mask"] is not None:
            values["key_padding_mask"] = values["key_padding_mask"][rows]
        if values["attn_mask"] is not None and values["attn_mask"].dim() == 3:
            mask = values["attn_mask"]
            values["attn_mask"] = mask.reshape(B, -1, *mask.shape[1:])[rows].flatten(0, 1)

    def _heads_of_row(self, batch: Tensor) -> Tensor | None:
        """[B, H, …] or [B·H, …] of two further dimensions → [H, …] of one row; None if it is not of this batch."""
        B = self._batch_size or len(batch)
        if self._row >= B:
            raise IndexError(f"row {self._row} of a batch of {B}")
        if batch.dim() < 3 or len(batch) % B:
            return None
        return batch.reshape(B, -1, *batch.shape[1:])[self._row].flatten(0, -3)

    def _add(self, maps: Tensor, T: int, is_certain: bool) -> None:
        """Keep the maps [H, n, n] of a layer; choose larger blocks if all together are too large."""
        call = self._calls[-1] if self._calls else None
        maps = maps.nan_to_num(0.0)  # A copy: the script may change its own.
        last = self._layers[-1] if self._layers else None
        if last is not None and len(maps) == 1 and last.continues_with(call, T):
            last.maps = torch.cat([last.maps, maps])
            last.call = call
        else:
            self._layers.append(_Layer(maps, T, call, is_certain))
        while sum(layer.maps.numel() for layer in self._layers) > self._max_weights and self._block < T:
            self._block *= 2
            for layer in self._layers:
                layer.maps = in_blocks(layer.maps, 2)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool, block: int) -> Tensor:
    """Return the weights of one head in blocks: scaled q [T, d], k [T, d], mask [T, T] → [n, n]."""
    T = len(q)
    size = block * max(1, MAX_CHUNK // (T * block))
    chunks = []
    for start in range(0, T, size):
        scores = q[start : start + size] @ k.T
        if is_causal:
            queries = torch.arange(start, start + len(scores), device=q.device)
            scores = scores.masked_fill(torch.arange(T, device=q.device) > queries[:, None], -torch.inf)
        if mask is not None:
            part = mask[start : start + size]
            scores = scores.masked_fill(~part, -torch.inf) if part.dtype == torch.bool else scores + part.float()
        # A query that may see nothing has no weights.
        chunks.append(in_blocks(scores.softmax(dim=-1).nan_to_num(0.0)[None], block)[0])
    return torch.cat(chunks)
