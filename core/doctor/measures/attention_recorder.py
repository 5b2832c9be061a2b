"""Records what one forward pass of any model computes: its attentions, and which positions its operations mix.

A TorchFunctionMode sees each function of torch that the model calls. Two things are followed from tensor to tensor:

- The constant factor that a tensor was multiplied by since its last matrix product, so that the scale of attention
  scores is known wherever it is applied: to q, to k, to the scores, or as an argument.
- The positions that each element comes from, as an integer tensor of the same shape to which reshapes, transposes and
  slices are applied as well. A view that merges heads with positions, or a mean over positions, then shows itself.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.measures.attention_record import AttentionCall, AttentionRecord, Mix, MixKind
from tui_lab.core.doctor.measures.operations import (
    CASTS,
    LAYOUTS,
    NORMS,
    PRODUCTS,
    REDUCTIONS,
    RESHAPES,
    SCALINGS,
    SOFTMAXES,
    Contraction,
    contraction,
    einsum_contraction,
    multi_head_weights,
    reduced_dims,
    scaled_dot_product_weights,
    softmax_dim,
)
from tui_lab.core.doctor.measures.position_numbers import agreed, heads_differ, is_constant, is_grid, spread, varies
from tui_lab.core.doctor.measures.tensor_tags import Product, Softmax, Tag, Tags, moved_softmax, tensors_in
from tui_lab.core.user_code.user_files import is_user_code
from tui_lab.core.watch.attention_capture import without_compiled_code

_OWN = f"{Path(__file__).resolve().parent}{os.sep}"
_TORCH = f"{Path(torch.__file__).resolve().parent}{os.sep}"


def record_attention(model: nn.Module, call: Callable[[], object], x: Tensor | None = None) -> AttentionRecord:
    """Run `call`, a forward pass of `model` without gradients, and return what it computed. Propagates its exceptions.

    x: the token ids of the pass, int64 [B, T]. Without them, rows and positions are those of the first embedding of
    ids [B, T], or of the first linear map of vectors [B, T, C].
    """
    recorder = _Recorder(x, {name: type(module).__name__ for name, module in model.named_modules()})
    with torch.no_grad(), without_compiled_code(), _module_names(model, recorder.modules), recorder:
        call()
    return recorder.record


@contextmanager
def _module_names(model: nn.Module, stack: list[str]) -> Iterator[None]:
    """Keep the names of the modules that are running in `stack`, the innermost last."""
    handles = []
    for name, module in model.named_modules():
        # bind the name at definition: a loop variable changes
        def enter(_: nn.Module, __: Any, name: str = name) -> None:
            stack.append(name)

        def leave(_: nn.Module, __: Any, ___: Any) -> None:
            if stack:
                stack.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _in_user_code() -> bool:
    """Whether the user's code, and not an installed package, calls torch's function that runs."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = os.path.realpath(frame.f_code.co_filename)
        if not file.startswith((_TORCH, _OWN)):
            return is_user_code(frame.f_code.co_filename)
        frame = frame.f_back
    return False


class _Recorder(TorchFunctionMode):
    def __init__(self, x: Tensor | None, classes: dict[str, str]) -> None:
        super().__init__()
        self.record = AttentionRecord()
        self.modules: list[str] = []
        self.classes = classes
        self._x = x
        self._shape = None if x is None else (x.shape[0], x.shape[1])
        self._tags = Tags()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        before = self._norm_facts(name, args, kwargs)
        result = func(*args, **kwargs)
        if before:
            self.record.mixes.append(before)
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

    @property
    def _module(self) -> str:
        return self.modules[-1] if self.modules else ""

    # Operations that give new vectors

    def _source(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        first = args[0] if args else kwargs.get("input")
        if not isinstance(result, Tensor) or not isinstance(first, Tensor):
            return
        if name == "embedding":
            self._embedding(first, result)
        elif name == "linear":
            self._check_vectors(first)
            self._tags.keep(self._projected(first, result))
        elif self._is_same_everywhere(first):
            self.record.same_angle = self.record.same_angle or user_line() or self._module or "?"

    def _embedding(self, ids: Tensor, result: Tensor) -> None:
        if ids.dim() == 2:
            self._shape = self._shape or (ids.shape[0], ids.shape[1])
            self._tags.keep(self._new(result))
        self._looked_up(ids)

    def _looked_up(self, ids: Tensor) -> None:
        """Record that ids other than the tokens are equal at every position."""
        T = self._x.shape[-1] if self._x is not None else 0
        is_own = self._x is not None and ids.shape == self._x.shape and torch.equal(ids, self._x)
        if T > 1 and not is_own and ids.dim() and ids.shape[-1] == T and bool((ids == ids[..., :1]).all()):
            self.record.constant_ids = self.record.constant_ids or user_line() or self._module or "?"

    def _is_same_everywhere(self, angle: Tensor) -> bool:
        """Whether there is an axis of positions along which the angles are equal."""
        T = self._x.shape[-1] if self._x is not None else 0
        axes = [axis for axis, size in enumerate(angle.shape) if size == T and T > 1]
        return len(axes) == 1 and bool((angle == angle.narrow(axes[0], 0, 1)).all())

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

    def _check_vectors(self, value: Tensor) -> None:
        """Record a reshape that puts several positions into one vector, or exchanges rows and positions."""
        tag = self._tags.of(value)
        if tag is None or tag.positions is None or tag.origin[0] * tag.origin[1] <= 1:
            return
        if not is_constant(tag.positions):
            B, T = tag.origin
            over_rows = not is_constant(tag.positions // T)
            is_proven = tuple(value.shape[:-1]) == (B, T) and tag.layout in RESHAPES and not over_rows
            self._mix("heads_merged", "a reshape", tag.layout_location, over_rows=over_rows, is_proven=is_proven)
        elif value.dim() == 3 and not is_grid(tag.positions[..., 0], tag.origin[1]):
            self._mix("batch_and_time", "a reshape", tag.layout_location, over_rows=True)

    def _mix(self, kind: MixKind, operation: str, location: str, *, over_rows: bool, is_proven: bool = False) -> None:
        mix = Mix(kind, operation, self._module, location, over_rows, is_proven)
        if not any((m.kind, m.location) == (kind, location) for m in self.record.mixes):
            self.record.mixes.append(mix)

    # Products and softmaxes

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
            self._check_vectors(pair.a)
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
            self._check_heads(a, query_positions)
            self._check_heads(b, self._positions_of(b, pair.right))
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

    def _check_heads(self, tag: Tag | None, positions: Tensor | None) -> None:
        """Record that the vectors of one head do not come from different positions of one row."""
        if tag is None or positions is None or positions.dim() < 1 or positions.shape[-1] < 2:
            return
        first = positions.flatten(0, -2)[0] if positions.dim() > 1 else positions
        rows = first // max(tag.origin[1], 1)
        over_rows = bool((rows != rows[0]).any())
        if len(torch.unique(first)) < len(first) or over_rows:
            is_proven = not over_rows and tag.layout in RESHAPES and heads_differ(positions, tag.origin[1])
            self._mix("heads_split", "a reshape", tag.layout_location, over_rows=over_rows, is_proven=is_proven)

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
        softmax, product = tag.softmax, tag.product
        alike = softmax is not None and softmax.output.shape == tag.tensor.shape
        scale = None
        if product is not None and product.factor is not None and tag.factor is not None:
            scale = product.factor * tag.factor
        call = AttentionCall(
            module=self._module,
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
            self._check_heads(tag, self._positions_of(tag, lambda t: t))
        factors = [1.0 if tag is None else tag.factor for tag in tags]
        is_projected = all(tag is not None and tag.is_projected for tag in tags)
        line = user_line()
        call = AttentionCall(
            module=self._module,
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
            AttentionCall(self._module, user_line(), weights, softmax=weights, query=query, key=key)
        )
        tag = self._tags.of(query)
        if tag is None or tag.positions is None:
            return
        rows = tag.positions // max(tag.origin[1], 1)
        if query.dim() == 3 and bool((rows[:1] != rows).any()):
            self._mix("batch_and_time", "MultiheadAttention without batch_first", user_line(), over_rows=True)
        if result[0].shape == query.shape:
            self._tags.keep(Tag(result[0], positions=tag.positions, origin=tag.origin))

    # Operations that keep or move elements

    def _layout(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        index = args[1] if len(args) > 1 else None
        if func is Tensor.__getitem__ and isinstance(index, Tensor) and not index.is_floating_point():
            self._looked_up(index)
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
            self._turned(first, next((value for value in values if value is not first.tensor), first.tensor))
        factor = self._tags.factor_after(name, args, first)
        if name in CASTS or name in ("dropout", "dropout_", "native_dropout"):
            positions: Tensor | None = first.positions
        else:
            positions = agreed([tag.positions for tag in tagged], result)
        if positions is not None and positions.shape != result.shape:
            positions = None
        self._tags.keep(replace(first, tensor=result, factor=factor, positions=positions))

    def _turned(self, tag: Tag, factors: Tensor) -> None:
        """Record that vectors of heads are multiplied by factors that differ along another axis than the positions."""
        positions, T = tag.positions, tag.origin[1]
        own = self._tags.of(factors)
        if not tag.is_projected or positions is None or positions.dim() < 4 or factors.dim() < 2:
            return
        if self._tags.is_weight(factors) or (own is not None and own.positions is not None):
            return
        try:
            factors = factors.expand(positions.shape)
        except RuntimeError:
            return
        times, rows = positions % T, positions // T
        axes = range(positions.dim() - 1)
        if any(varies(factors, axis) and varies(times, axis) for axis in axes):
            return
        axis = next((axis for axis in axes if varies(factors, axis)), None)
        if axis is not None and not self.record.turned_over:
            self.record.turned_over = "rows of the batch" if varies(rows, axis) else "heads"
            self.record.turned_location = user_line()

    # Norms and means over positions or rows

    def _norm_facts(self, name: str, args: Any, kwargs: Any) -> Mix | None:
        if name == "batch_norm":
            training = kwargs.get("training", args[5] if len(args) > 5 else False)
            return Mix("norm", "batch norm", self._module, user_line(), over_rows=True) if training else None
        if name not in NORMS and name not in REDUCTIONS:
            return None
        value = args[0] if args else kwargs.get("input")
        tag = self._tags.of(value)
        if tag is None or tag.positions is None or tag.product is not None:
            return None
        dims = reduced_dims(name, args, kwargs, value.dim())
        if not dims:
            return None
        positions = tag.positions
        if bool((positions.amax(dims) == positions.amin(dims)).all()):
            return None
        rows = positions // max(tag.origin[1], 1)
        over_rows = not bool((rows.amax(dims) == rows.amin(dims)).all())
        is_norm = name in NORMS or name in ("var", "std", "var_mean", "std_mean", "norm", "vector_norm")
        is_norm = is_norm or "norm" in self.classes.get(self._module, "").lower()
        operation = name.removesuffix("_").replace("_", " ") + (f" over axis {dims[0]}" if len(dims) == 1 else "")
        return Mix("norm" if is_norm else "reduction", operation, self._module, user_line(), over_rows=over_rows)
