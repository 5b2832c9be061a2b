"""What one forward pass of any model computes: its attentions, and which positions its operations mix.

A TorchFunctionMode sees each function of torch that the model calls. Two things are followed from tensor to tensor:

- The constant factor that a tensor was multiplied by since its last matrix product, so that the scale of attention
  scores is known wherever it is applied: to q, to k, to the scores, or as an argument.
- The positions that each element comes from, as an integer tensor of the same shape to which reshapes, transposes and
  slices are applied as well. A view that merges heads with positions, or a mean over positions, then shows itself.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.loop.lines import is_user_code, user_line
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
from tui_lab.core.watch.attention_capture import without_compiled_code

MixKind = Literal["heads_split", "heads_merged", "batch_and_time", "norm", "reduction"]
_OWN = os.path.realpath(__file__)
_TORCH = f"{Path(torch.__file__).resolve().parent}{os.sep}"


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One weighted mean of values.

    module: the innermost module that computes it. location: the line of the user's code.
    query, key: as they were multiplied, or what a MultiheadAttention was called with; None: unknown.
    d_head: the size over which q and k were multiplied. scale: the factor of q kᵀ; None: learned, or not followed.
    softmax: what the softmax returned, [..., queries, keys]; None: the weights come from no softmax.
    weights: what the values were multiplied by, [..., queries, keys].
    scores: what the softmax was applied to, with the same axes.
    """

    module: str
    location: str
    weights: Tensor
    softmax: Tensor | None = None
    scores: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    d_head: int | None = None
    scale: float | None = None
    scores_location: str = ""
    is_projected: bool = False
    """Whether q and k both come from linear maps: scores of other states, as of an RNN, are often not scaled."""
    is_own: bool = False
    """Whether, in addition, the user's code multiplies them."""

    @property
    def is_square(self) -> bool:
        """Whether there are as many queries as keys."""
        return self.weights.shape[-1] == self.weights.shape[-2]


@dataclass(frozen=True)
class Mix:
    """An operation that brings different positions or rows together.

    kind: heads_split, heads_merged: a reshape puts several positions into one vector, or orders them by heads.
    batch_and_time: a reshape exchanges rows and positions. norm, reduction: over an axis of positions or rows.
    over_rows: whether it mixes rows of the batch; else positions of one row.
    is_proven: whether vectors of heads hold the wrong positions even if no effect is measured.
    """

    kind: MixKind
    operation: str
    module: str
    location: str
    over_rows: bool = False
    is_proven: bool = False


@dataclass
class AttentionRecord:
    """The attentions of one forward pass in their order, and the operations that mix positions or rows."""

    calls: list[AttentionCall] = field(default_factory=list)
    mixes: list[Mix] = field(default_factory=list)
    same_angle: str = ""
    """The line at which sines or cosines were computed of an angle that is equal at every position."""
    turned_over: str = ""
    """The axis other than the positions along which the factors of q or k differ: "heads" or "rows of the batch"."""
    turned_location: str = ""
    constant_ids: str = ""
    """The line at which a second table was looked up with equal ids at every position."""


@dataclass(eq=False)
class _Product:
    """q kᵀ: both operands with the axes [..., queries or keys, d]."""

    query: Tensor
    key: Tensor
    factor: float | None
    location: str
    query_positions: Tensor | None
    is_projected: bool
    is_own: bool


@dataclass(eq=False)
class _Softmax:
    output: Tensor
    scores: Tensor
    location: str


@dataclass(eq=False)
class _Tag:
    """What is known of a tensor. tensor: kept alive, so that its id stays its own."""

    tensor: Tensor
    factor: float | None = 1.0
    positions: Tensor | None = None
    origin: tuple[int, int] = (0, 0)
    """The rows and positions that `positions` counts: row · n_positions + position."""
    product: _Product | None = None
    softmax: _Softmax | None = None
    is_weight: bool = False
    layout: str = ""
    layout_location: str = ""
    is_projected: bool = False
    """Whether it comes from a linear map, without a softmax or product of two activations since."""


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
        self._tags: dict[int, _Tag] = {}

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

    # What is known of a tensor

    def _tag(self, value: Any) -> _Tag | None:
        tag = self._tags.get(id(value)) if isinstance(value, Tensor) else None
        return tag if tag is not None and tag.tensor is value else None

    def _keep(self, tag: _Tag) -> None:
        self._tags[id(tag.tensor)] = tag

    def _is_weight(self, value: Any) -> bool:
        if not isinstance(value, Tensor):
            return False
        tag = self._tag(value)
        return isinstance(value, nn.Parameter) or isinstance(value._base, nn.Parameter) or bool(tag and tag.is_weight)

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
            self._keep(self._projected(first, result))
        elif self._is_same_everywhere(first):
            self.record.same_angle = self.record.same_angle or user_line() or self._module or "?"

    def _embedding(self, ids: Tensor, result: Tensor) -> None:
        if ids.dim() == 2:
            self._shape = self._shape or (ids.shape[0], ids.shape[1])
            self._keep(self._new(result))
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

    def _projected(self, value: Tensor, result: Tensor) -> _Tag:
        """Return the tag of a linear map's result: each vector comes from the positions of the vector before."""
        tag = self._tag(value)
        if tag is not None and tag.positions is not None and _is_constant(tag.positions):
            positions = tag.positions[..., :1].expand(result.shape)
            return _Tag(result, positions=positions, origin=tag.origin, is_projected=True)
        new = self._new(result)
        new.is_projected = True
        return new

    def _new(self, result: Tensor) -> _Tag:
        """Return the tag of vectors [B, T, C] or [T, B, C] that are numbered by row · T + position."""
        if result.dim() != 3:
            return _Tag(result)
        B, T = self._shape = self._shape or (result.shape[0], result.shape[1])
        numbers = torch.arange(B * T, device=result.device).view(B, T)
        if tuple(result.shape[:2]) == (T, B):
            numbers = numbers.t()
        elif tuple(result.shape[:2]) != (B, T):
            return _Tag(result)
        return _Tag(result, positions=numbers[..., None].expand(result.shape), origin=(B, T))

    def _check_vectors(self, value: Tensor) -> None:
        """Record a reshape that puts several positions into one vector, or exchanges rows and positions."""
        tag = self._tag(value)
        if tag is None or tag.positions is None or tag.origin[0] * tag.origin[1] <= 1:
            return
        if not _is_constant(tag.positions):
            B, T = tag.origin
            over_rows = not _is_constant(tag.positions // T)
            is_proven = tuple(value.shape[:-1]) == (B, T) and tag.layout in RESHAPES and not over_rows
            self._mix("heads_merged", "a reshape", tag.layout_location, over_rows=over_rows, is_proven=is_proven)
        elif value.dim() == 3 and not _is_grid(tag.positions[..., 0], tag.origin[1]):
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
        if self._is_weight(pair.b):
            self._check_vectors(pair.a)
            self._keep(self._projected(pair.a, result))
        elif not self._is_weight(pair.a):
            self._of_two_activations(pair, factor, result)

    def _of_two_activations(self, pair: Contraction, factor: float, result: Tensor) -> None:
        a, b = self._tag(pair.a), self._tag(pair.b)
        if a is not None and (a.softmax or a.product):
            self._weighted_mean(a, pair.left, result)
        elif b is not None and (b.softmax or b.product):
            self._weighted_mean(b, pair.right, result)
        else:
            factors = [1.0 if tag is None else tag.factor for tag in (a, b)]
            known = None if None in factors else factor * factors[0] * factors[1]  # type: ignore[operator]
            query_positions = self._positions_of(a, pair.left)
            self._check_heads(a, query_positions)
            self._check_heads(b, self._positions_of(b, pair.right))
            query, key = pair.left(pair.a), pair.right(pair.b)
            is_projected = a is not None and b is not None and a.is_projected and b.is_projected
            is_own = is_projected and _in_user_code()
            product = _Product(query, key, known, user_line(), query_positions, is_projected, is_own)
            self._keep(_Tag(result, product=product, origin=a.origin if a else (0, 0)))

    def _positions_of(self, tag: _Tag | None, aligned: Callable[[Tensor], Tensor]) -> Tensor | None:
        """Return the positions of the vectors of q or k, [..., vectors], if each comes from one."""
        if tag is None or tag.positions is None:
            return None
        positions = aligned(tag.positions)
        return positions[..., 0] if _is_constant(positions) else None

    def _check_heads(self, tag: _Tag | None, positions: Tensor | None) -> None:
        """Record that the vectors of one head do not come from different positions of one row."""
        if tag is None or positions is None or positions.dim() < 1 or positions.shape[-1] < 2:
            return
        first = positions.flatten(0, -2)[0] if positions.dim() > 1 else positions
        rows = first // max(tag.origin[1], 1)
        over_rows = bool((rows != rows[0]).any())
        if len(torch.unique(first)) < len(first) or over_rows:
            is_proven = not over_rows and tag.layout in RESHAPES and _heads_differ(positions, tag.origin[1])
            self._mix("heads_split", "a reshape", tag.layout_location, over_rows=over_rows, is_proven=is_proven)

    def _softmax(self, args: Any, kwargs: Any, result: Tensor) -> None:
        scores = args[0] if args else kwargs["input"]
        tag = self._tag(scores)
        if tag is None or tag.product is None:
            return
        dim = softmax_dim(args, kwargs, scores.dim())
        if scores.shape[dim] < 2:
            return
        softmax = _Softmax(result.detach().clone(), scores.detach(), user_line())
        self._keep(_Tag(result, factor=tag.factor, product=tag.product, softmax=softmax, origin=tag.origin))

    def _weighted_mean(self, tag: _Tag, aligned: Callable[[Tensor], Tensor], result: Tensor) -> None:
        weights = aligned(tag.tensor)
        softmax, product = tag.softmax, tag.product
        alike = softmax is not None and softmax.output.shape == tag.tensor.shape
        d_head = product.query.shape[-1] if product else None
        scale = None
        if product is not None and product.factor is not None and tag.factor is not None:
            scale = product.factor * tag.factor
        self.record.calls.append(
            AttentionCall(
                self._module,
                softmax.location if softmax else "",
                weights.detach().clone(),
                aligned(softmax.output) if softmax and alike else None,
                aligned(softmax.scores) if softmax and alike else None,
                product.query if product else None,
                product.key if product else None,
                d_head,
                scale,
                product.location if product else "",
                product is not None and product.is_projected,
                product is not None and product.is_own,
            )
        )
        self._keep(
            _Tag(result, positions=_spread(product.query_positions if product else None, result), origin=tag.origin)
        )

    def _scaled_dot_product(self, args: Any, kwargs: Any, result: Tensor) -> None:
        q, k = (args[i] if len(args) > i else kwargs[n] for i, n in enumerate(("query", "key")))
        weights, scores, scale = scaled_dot_product_weights(*args, **kwargs)
        tags = [self._tag(q), self._tag(k)]
        for tag in tags:
            self._check_heads(tag, self._positions_of(tag, lambda t: t))
        factors = [1.0 if tag is None else tag.factor for tag in tags]
        known = None if None in factors else scale * factors[0] * factors[1]  # type: ignore[operator]
        line = user_line()
        is_projected = all(tag is not None and tag.is_projected for tag in tags)
        call = AttentionCall(
            self._module,
            line,
            weights,
            weights,
            scores,
            q,
            k,
            q.shape[-1],
            known,
            line,
            is_projected,
            is_projected and _in_user_code(),
        )
        self.record.calls.append(call)
        positions = self._positions_of(tags[0], lambda t: t)
        self._keep(_Tag(result, positions=_spread(positions, result), origin=tags[0].origin if tags[0] else (0, 0)))

    def _multi_head(self, args: Any, kwargs: Any, result: Any) -> None:
        weights, query, key = multi_head_weights(args, kwargs)
        self.record.calls.append(AttentionCall(self._module, user_line(), weights, weights, None, query, key))
        tag = self._tag(query)
        if tag is None or tag.positions is None:
            return
        rows = tag.positions // max(tag.origin[1], 1)
        if query.dim() == 3 and bool((rows[:1] != rows).any()):
            self._mix("batch_and_time", "MultiheadAttention without batch_first", user_line(), over_rows=True)
        if result[0].shape == query.shape:
            self._keep(_Tag(result[0], positions=tag.positions, origin=tag.origin))

    # Operations that keep or move elements

    def _layout(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        index = args[1] if len(args) > 1 else None
        if func is Tensor.__getitem__ and isinstance(index, Tensor) and not index.is_floating_point():
            self._looked_up(index)
        tagged = [tag for tag in map(self._tag, _tensors(args, kwargs)) if tag is not None]
        if not tagged:
            if any(self._is_weight(value) for value in _tensors(args, kwargs)):
                for each in _tensors((result,), {}):
                    self._keep(_Tag(each, is_weight=True))
            return
        first = tagged[0]
        positions = self._moved(func, args, kwargs)
        line = user_line()
        outputs = list(_tensors((result,), {}))
        moved = list(_tensors((positions,), {})) if positions is not None else []
        for number, each in enumerate(outputs):
            own = moved[number] if len(moved) == len(outputs) and moved[number].shape == each.shape else None
            softmax = _moved_softmax(func, args, kwargs, first) if len(outputs) == 1 else first.softmax
            name = getattr(func, "__name__", "")
            self._keep(replace(first, tensor=each, positions=own, layout=name, layout_location=line, softmax=softmax))

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the positions after a layout operation, or None if they are unknown for one of its tensors."""

        def positions(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return type(value)(positions(each) for each in value)
            if isinstance(value, Tensor) and value.is_floating_point():
                tag = self._tag(value)
                if tag is None or tag.positions is None:
                    raise LookupError
                return tag.positions
            return value

        # Positions are expanded, so a view of them may not be possible where one of the tensor is.
        func = Tensor.reshape if func is Tensor.view else func
        try:
            return func(*positions(tuple(args)), **{key: positions(value) for key, value in kwargs.items()})
        except (LookupError, RuntimeError, TypeError):
            return None

    def _elementwise(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if not isinstance(result, Tensor) or not result.is_floating_point():
            return
        values = list(_tensors(args, kwargs))
        tagged = [tag for tag in map(self._tag, values) if tag is not None and not tag.is_weight]
        if not tagged:
            if values and all(self._is_weight(value) for value in values):
                self._keep(_Tag(result, is_weight=True))
            return
        first = next((tag for tag in tagged if tag.product or tag.softmax), tagged[0])
        if SCALINGS.get(name) == "multiply" and len(values) == 2:
            self._turned(first, next((value for value in values if value is not first.tensor), first.tensor))
        factor = self._factor(name, args, first, values)
        if name in CASTS or name in ("dropout", "dropout_", "native_dropout"):
            positions: Tensor | None = first.positions
        else:
            positions = _agreed([tag.positions for tag in tagged], result)
        if positions is not None and positions.shape != result.shape:
            positions = None
        self._keep(replace(first, tensor=result, factor=factor, positions=positions))

    def _turned(self, tag: _Tag, factors: Tensor) -> None:
        """Record that vectors of heads are multiplied by factors that differ along another axis than the positions."""
        positions, T = tag.positions, tag.origin[1]
        own = self._tag(factors)
        if not tag.is_projected or positions is None or positions.dim() < 4 or factors.dim() < 2:
            return
        if self._is_weight(factors) or (own is not None and own.positions is not None):
            return
        try:
            factors = factors.expand(positions.shape)
        except RuntimeError:
            return
        times, rows = positions % T, positions // T
        axes = range(positions.dim() - 1)
        if any(_varies(factors, axis) and _varies(times, axis) for axis in axes):
            return
        axis = next((axis for axis in axes if _varies(factors, axis)), None)
        if axis is not None and not self.record.turned_over:
            self.record.turned_over = "rows of the batch" if _varies(rows, axis) else "heads"
            self.record.turned_location = user_line()

    def _factor(self, name: str, args: Any, tag: _Tag, values: list[Tensor]) -> float | None:
        """Return the factor of a tensor after an operation with it."""
        if name in NORMS or name == "normalize":
            return None
        if name not in SCALINGS or tag.factor is None:
            return tag.factor
        others = [each for each in args if each is not tag.tensor]
        other = others[0] if others else None
        if isinstance(other, Tensor) and self._is_weight(other):
            return None
        if isinstance(other, Tensor) and other.numel() != 1:
            return tag.factor
        number = abs(float(other)) if isinstance(other, int | float | Tensor) else 1.0
        if SCALINGS[name] == "multiply":
            return tag.factor * number
        return tag.factor / number if args[0] is tag.tensor and number else None

    # Norms and means over positions or rows

    def _norm_facts(self, name: str, args: Any, kwargs: Any) -> Mix | None:
        if name == "batch_norm":
            training = kwargs.get("training", args[5] if len(args) > 5 else False)
            return Mix("norm", "batch norm", self._module, user_line(), over_rows=True) if training else None
        if name not in NORMS and name not in REDUCTIONS:
            return None
        value = args[0] if args else kwargs.get("input")
        tag = self._tag(value)
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


def _tensors(args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yield the tensors of a call, also those in its lists."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value, {})


def _moved_softmax(func: Any, args: Any, kwargs: Any, tag: _Tag) -> _Softmax | None:
    """Return the softmax of a tag with its tensors moved as the tag's own tensor is."""
    softmax = tag.softmax
    if softmax is None or softmax.output.shape != tag.tensor.shape:
        return softmax
    if not any(value is tag.tensor for value in (*args, *kwargs.values())):
        return softmax

    def moved(tensor: Tensor) -> Tensor:
        own = {key: tensor if value is tag.tensor else value for key, value in kwargs.items()}
        result: Tensor = func(*(tensor if value is tag.tensor else value for value in args), **own)
        return result

    try:
        return _Softmax(moved(softmax.output), moved(softmax.scores), softmax.location)
    except (RuntimeError, TypeError):
        return softmax


def _heads_differ(positions: Tensor, T: int) -> bool:
    """Whether two heads of the first row, in positions [..., vectors], come from different positions of it."""
    groups = positions.flatten(0, -2) if positions.dim() > 1 else positions[None]
    own = groups[(groups // max(T, 1) == groups[0, 0] // max(T, 1)).all(dim=1)].sort(dim=1).values
    return bool((own != own[:1]).any())


def _varies(values: Tensor, axis: int) -> bool:
    return bool((values != values.narrow(axis, 0, 1)).any())


def _is_constant(positions: Tensor) -> bool:
    """Whether each vector comes from one position."""
    return bool((positions == positions[..., :1]).all())


def _is_grid(positions: Tensor, T: int) -> bool:
    """Whether positions [n, m] have rows along one axis and positions along the other."""
    rows, times = positions // T, positions % T
    straight = bool((rows == rows[:, :1]).all() and (times == times[:1]).all())
    return straight or bool((rows == rows[:1]).all() and (times == times[:, :1]).all())


def _spread(positions: Tensor | None, result: Tensor) -> Tensor | None:
    """Return the positions of each element of [..., queries, d] from those of the queries."""
    if positions is None or positions.shape != result.shape[:-1]:
        return None
    return positions[..., None].expand(result.shape)


def _agreed(several: list[Tensor | None], result: Tensor) -> Tensor | None:
    """Return the positions that all operands of the result's shape have, or None."""
    own = [positions for positions in several if positions is not None and positions.shape == result.shape]
    if not own or any(not torch.equal(own[0], other) for other in own[1:]):
        return None
    return own[0]


def default_scale(d_head: int) -> float:
    """Return 1 / √d_head (Vaswani et al. 2017)."""
    return 1 / math.sqrt(d_head)
