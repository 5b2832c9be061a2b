"""Records what one forward pass of any model computes: its attentions, and which positions its operations mix.

A TorchFunctionMode sees each function of torch that the model calls. Two things are followed from tensor to tensor:

- The constant factor that a tensor was multiplied by since its last matrix product, so that the scale of attention
  scores is known wherever it is applied: to q, to k, to the scores, or as an argument.
- The positions that each element comes from, as an integer tensor of the same shape to which reshapes, transposes and
  slices are applied as well. A view that merges heads with positions, or a mean over positions, then shows itself.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.measures.attention_record import AttentionCall, AttentionRecord
from tui_lab.core.doctor.measures.module_stack import ModuleStack
from tui_lab.core.doctor.measures.operations import (
    CASTS,
    LAYOUTS,
    PRODUCTS,
    SCALINGS,
    SOFTMAXES,
    Contraction,
    contraction,
    einsum_contraction,
    multi_head_weights,
    scaled_dot_product_weights,
    softmax_dim,
)
from tui_lab.core.doctor.measures.position_checks import PositionChecks
from tui_lab.core.doctor.measures.position_numbers import agreed, is_constant, spread
from tui_lab.core.doctor.measures.tensor_tags import Product, Softmax, Tag, Tags, moved_softmax, tensors_in
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.answers.attention_capture import without_compiled_code
from tui_lab.core.watch.variables.frames import with_callers

_OWN = f"{Path(__file__).resolve().parent}{os.sep}"
_TORCH = f"{Path(torch.__file__).resolve().parent}{os.sep}"


def record_attention(model: nn.Module, call: Callable[[], object], x: Tensor | None = None) -> AttentionRecord:
    """Run `call`, a forward pass of `model` without gradients, and return what it computed. Propagates its exceptions.

    x: the token ids of the pass, int64 [B, T]. Without them, rows and positions are those of the first embedding of
    ids [B, T], or of the first linear map of vectors [B, T, C].
    """
    modules = ModuleStack(model)
    recorder = _Recorder(x, modules)
    with torch.no_grad(), without_compiled_code(), modules.following(), recorder:
        call()
    return recorder.record


def _in_user_code() -> bool:
    """Return whether the user's code, and not an installed package, calls torch's function that runs."""
    files = (frame.f_code.co_filename for frame in with_callers(sys._getframe(1)))
    return next((is_user_code(file) for file in files if not os.path.realpath(file).startswith((_TORCH, _OWN))), False)


class _Recorder(TorchFunctionMode):
    def __init__(self, x: Tensor | None, modules: ModuleStack) -> None:
        super().__init__()
        self.record = AttentionRecord()
        self._modules = modules
        self._shape = None if x is None else (x.shape[0], x.shape[1])
        self._tags = Tags()
        self._checks = PositionChecks(self.record, self._tags, modules, x)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "batch_norm":
            self._checks.batch_norm(args, kwargs)
        else:
            self._checks.mean(name, args, kwargs)
        result = func(*args, **kwargs)
        self._follow(func, name, args, kwargs, result)
        return result

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if name in ("linear", "embedding", "sin", "cos", "polar"):
            self._source(name, args, kwargs, result)
        elif name in PRODUCTS:
            self._product(name, args, kwargs, result)
        elif func in SOFTMAXES:
            self._softmax(args, kwargs, result)
        elif func is F.scaled_dot_product_attention:
            self._scaled_dot_product(args, kwargs, result)
        elif func is F.multi_head_attention_forward:
            self._multi_head(args, kwargs, result)
        elif name in LAYOUTS:
            self._layout(func, args, kwargs, result)
        else:
            self._elementwise(name, args, kwargs, result)

    def _source(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        first = args[0] if args else kwargs.get("input")
        if not isinstance(result, Tensor) or not isinstance(first, Tensor):
            return
        if name == "embedding":
            self._embedding(first, result)
        elif name == "linear":
            self._checks.vectors(first)
            self._tags.keep(self._projected(first, result))
        else:
            self._checks.angle(first)

    def _embedding(self, ids: Tensor, result: Tensor) -> None:
        if ids.dim() == 2:
            self._shape = self._shape or (ids.shape[0], ids.shape[1])
            self._tags.keep(self._new(result))
        self._checks.looked_up(ids)

    def _projected(self, value: Tensor, result: Tensor) -> Tag:
        """Return the tag of a linear map's result: each vector comes from the positions of the vector before."""
        tag = self._tags.of(value)
        if tag is not None and tag.positions is not None and is_constant(tag.positions):
            positions = tag.positions[..., :1].expand(result.shape)
            return Tag(result, positions=positions, origin=tag.origin, is_projected=True)
        new = self._new(result)
        new.is_projected = True
        return new

    def _new(self, result: Tensor) -> Tag:
        """Return the tag of vectors [B, T, C] or [T, B, C] that are numbered by row · T + position."""
        if result.dim() != 3:
            return Tag(result)
        B, T = self._shape = self._shape or (result.shape[0], result.shape[1])
        numbers = torch.arange(B * T, device=result.device).view(B, T)
        if tuple(result.shape[:2]) == (T, B):
            numbers = numbers.t()
        elif tuple(result.shape[:2]) != (B, T):
            return Tag(result)
        return Tag(result, positions=numbers[..., None].expand(result.shape), origin=(B, T))

    def _product(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if not isinstance(result, Tensor):
            return
        factor = 1.0
        if name == "einsum":
            operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
            pair = einsum_contraction(args[0], operands) if isinstance(args[0], str) else None
        elif name in ("baddbmm", "baddbmm_", "addmm"):
            factor = float(kwargs.get("alpha", 1.0))
            factors = args[1:3] if len(args) >= 3 else (kwargs.get("batch1"), kwargs.get("batch2"))
            pair = contraction(*factors)
        else:
            second = args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("mat2"))
            first, second = (second, args[0]) if name == "__rmatmul__" else (args[0], second)
            pair = contraction(first, second)
        if pair is None:
            return
        if self._tags.is_weight(pair.b):
            self._checks.vectors(pair.a)
            self._tags.keep(self._projected(pair.a, result))
        elif not self._tags.is_weight(pair.a):
            self._of_two_activations(pair, factor, result)

    def _of_two_activations(self, pair: Contraction, factor: float, result: Tensor) -> None:
        a, b = self._tags.of(pair.a), self._tags.of(pair.b)
        if a is not None and (a.softmax or a.product):
            self._weighted_mean(a, pair.left, result)
        elif b is not None and (b.softmax or b.product):
            self._weighted_mean(b, pair.right, result)
        else:
            factors = [1.0 if tag is None else tag.factor for tag in (a, b)]
            scale = None if None in factors else factor * factors[0] * factors[1]  # type: ignore[operator]
            query_positions = self._positions_of(a, pair.left)
            self._checks.heads(a, query_positions)
            self._checks.heads(b, self._positions_of(b, pair.right))
            query, key = pair.left(pair.a), pair.right(pair.b)
            is_projected = a is not None and b is not None and a.is_projected and b.is_projected
            is_own = is_projected and _in_user_code()
            product = Product(query, key, scale, user_line(), query_positions, is_projected, is_own)
            self._tags.keep(Tag(result, product=product, origin=a.origin if a else (0, 0)))

    def _positions_of(self, tag: Tag | None, aligned: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Return the positions of the vectors of q or k, [..., vectors], if each comes from one."""
        if tag is None or tag.positions is None:
            return None
        positions = aligned(tag.positions)
        return positions[..., 0] if is_constant(positions) else None

    def _softmax(self, args: Any, kwargs: Any, result: Tensor) -> None:
        scores = args[0] if args else kwargs["input"]
        tag = self._tags.of(scores)
        if tag is None or tag.product is None:
            return
        dim = softmax_dim(args, kwargs, scores.dim())
        if scores.shape[dim] < 2:
            return
        softmax = Softmax(result.detach().clone(), scores.detach(), user_line())
        self._tags.keep(Tag(result, factor=tag.factor, product=tag.product, softmax=softmax, origin=tag.origin))

    def _weighted_mean(self, tag: Tag, aligned: Callable[[Tensor], Tensor], result: Tensor) -> None:
        weights = aligned(tag.tensor)
        softmax = tag.softmax
        product = tag.product
        alike = softmax is not None and softmax.output.shape == tag.tensor.shape
        scale = None
        if product is not None and product.factor is not None and tag.factor is not None:
            scale = product.factor * tag.factor
        call = AttentionCall(
            module=self._modules.innermost,
            location=softmax.location if softmax else "",
            weights=weights.detach().clone(),
            softmax=aligned(softmax.output) if softmax and alike else None,
            scores=aligned(softmax.scores) if softmax and alike else None,
            scale=scale,
        )
        if product is not None:
            call = replace(
                call,
                query=product.query,
                key=product.key,
                d_head=product.query.shape[-1],
                scores_location=product.location,
                is_projected=product.is_projected,
                is_own=product.is_own,
            )
        self.record.calls.append(call)
        self._tags.keep(
            Tag(result, positions=spread(product.query_positions if product else None, result), origin=tag.origin)
        )

    def _scaled_dot_product(self, args: Any, kwargs: Any, result: Tensor) -> None:
        q, k = (args[i] if len(args) > i else kwargs[n] for i, n in enumerate(("query", "key")))
        weights, scores, scale = scaled_dot_product_weights(*args, **kwargs)
        tags = [self._tags.of(q), self._tags.of(k)]
        for tag in tags:
            self._checks.heads(tag, self._positions_of(tag, lambda t: t))
        factors = [1.0 if tag is None else tag.factor for tag in tags]
        is_projected = all(tag is not None and tag.is_projected for tag in tags)
        line = user_line()
        call = AttentionCall(
            module=self._modules.innermost,
            location=line,
            weights=weights,
            softmax=weights,
            scores=scores,
            query=q,
            key=k,
            d_head=q.shape[-1],
            scale=None if None in factors else scale * factors[0] * factors[1],  # type: ignore[operator]
            scores_location=line,
            is_projected=is_projected,
            is_own=is_projected and _in_user_code(),
        )
        self.record.calls.append(call)
        positions = self._positions_of(tags[0], lambda t: t)
        self._tags.keep(Tag(result, positions=spread(positions, result), origin=tags[0].origin if tags[0] else (0, 0)))

    def _multi_head(self, args: Any, kwargs: Any, result: Any) -> None:
        weights, query, key = multi_head_weights(args, kwargs)
        self.record.calls.append(
            AttentionCall(self._modules.innermost, user_line(), weights, softmax=weights, query=query, key=key)
        )
        tag = self._tags.of(query)
        if tag is None or tag.positions is None:
            return
        rows = tag.positions // max(tag.origin[1], 1)
        if query.dim() == 3 and bool((rows[:1] != rows).any()):
            self._checks.add("batch_and_time", "MultiheadAttention without batch_first", user_line(), over_rows=True)
        if result[0].shape == query.shape:
            self._tags.keep(Tag(result[0], positions=tag.positions, origin=tag.origin))

    def _layout(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        index = args[1] if len(args) > 1 else None
        if func is Tensor.__getitem__ and isinstance(index, Tensor) and not index.is_floating_point():
            self._checks.looked_up(index)
        tagged = [tag for tag in map(self._tags.of, tensors_in(args, kwargs)) if tag is not None]
        if not tagged:
            if any(self._tags.is_weight(value) for value in tensors_in(args, kwargs)):
                for each in tensors_in((result,), {}):
                    self._tags.keep(Tag(each, is_weight=True))
            return
        first = tagged[0]
        positions = self._tags.moved_positions(func, args, kwargs)
        line = user_line()
        outputs = list(tensors_in((result,), {}))
        moved = list(tensors_in((positions,), {})) if positions is not None else []
        for number, each in enumerate(outputs):
            own = moved[number] if len(moved) == len(outputs) and moved[number].shape == each.shape else None
            softmax = moved_softmax(func, args, kwargs, first) if len(outputs) == 1 else first.softmax
            name = getattr(func, "__name__", "")
            self._tags.keep(
                replace(first, tensor=each, positions=own, layout=name, layout_location=line, softmax=softmax)
            )

    def _elementwise(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return
        values = list(tensors_in(args, kwargs))
        tagged = [tag for tag in map(self._tags.of, values) if tag is not None and not tag.is_weight]
        if not tagged:
            if values and all(self._tags.is_weight(value) for value in values):
                self._tags.keep(Tag(result, is_weight=True))
            return
        first = next((tag for tag in tagged if tag.product or tag.softmax), tagged[0])
        if SCALINGS.get(name) == "multiply" and len(values) == 2:
            self._checks.rotation(first, next((value for value in values if value is not first.tensor), first.tensor))
        factor = self._tags.factor_after(name, args, first)
        if name in CASTS or name in ("dropout", "dropout_", "native_dropout"):
            positions: Tensor | None = first.positions
        else:
            positions = agreed([tag.positions for tag in tagged], result)
        if positions is not None and positions.shape != result.shape:
            positions = None
        self._tags.keep(replace(first, tensor=result, factor=factor, positions=positions))
