"""Torch's functions as the doctor's record of a forward pass sees them: which axes they multiply, reduce or move."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SOFTMAXES: frozenset[Any] = frozenset((F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax))
PRODUCTS = frozenset(("matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "einsum", "baddbmm", "baddbmm_", "addmm"))
SCALINGS = {
    **dict.fromkeys(("mul", "__mul__", "__rmul__", "__imul__", "mul_", "multiply"), "multiply"),
    **dict.fromkeys(("div", "__truediv__", "__itruediv__", "div_", "true_divide", "divide"), "divide"),
}
CASTS = frozenset(("to", "float", "half", "bfloat16", "double", "type_as", "type", "contiguous", "clone", "detach"))
NORMS = frozenset(("layer_norm", "rms_norm", "group_norm", "instance_norm"))
REDUCTIONS = frozenset(
    ("mean", "sum", "var", "std", "var_mean", "std_mean", "norm", "vector_norm", "amax", "logsumexp")
)
RESHAPES = frozenset(("view", "reshape", "view_as", "reshape_as", "flatten", "unflatten"))
LAYOUTS = frozenset((
    "view", "reshape", "view_as", "reshape_as", "transpose", "transpose_", "permute", "swapaxes", "swapdims", "movedim",
    "moveaxis", "flatten", "unflatten", "unsqueeze", "squeeze", "expand", "expand_as", "__getitem__", "chunk", "split",
    "unsafe_split", "unsafe_chunk", "tensor_split", "unbind", "cat", "concat", "concatenate", "stack", "hstack",
    "vstack", "dstack", "repeat", "repeat_interleave", "t", "narrow", "select", "index_select", "roll", "flip", "tile",
    "__get__", "unfold",
))  # fmt: skip
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


@dataclass(frozen=True, eq=False)
class Contraction:
    """A product of two tensors over one axis.

    left, right: put the axes of a tensor shaped like a or b into the order [..., vectors, contracted axis].
    """

    a: Tensor
    b: Tensor
    left: Callable[[Tensor], Tensor]
    right: Callable[[Tensor], Tensor]


def contraction(a: Any, b: Any) -> Contraction | None:
    """Return how a @ b multiplies its operands, or None for vectors."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.dim() < 2 or b.dim() < 2:
        return None
    return Contraction(a, b, lambda t: t, lambda t: t.transpose(-1, -2))


def einsum_contraction(equation: str, operands: Sequence[Any]) -> Contraction | None:
    """Return how an einsum of two tensors multiplies them; None if it does not sum over exactly one shared axis."""
    if len(operands) != 2 or not all(isinstance(each, Tensor) for each in operands):
        return None
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != 2 or not output:
        return None
    terms, output = _without_ellipsis(terms, output, operands)
    shared = [axis for axis in terms[0] if axis in terms[1] and axis not in output]
    if len(shared) != 1:
        return None
    first = _order(terms[0], terms[1], output, shared[0])
    second = _order(terms[1], terms[0], output, shared[0])
    if first is None or second is None:
        return None
    return Contraction(operands[0], operands[1], lambda t: t.permute(first), lambda t: t.permute(second))


def _without_ellipsis(terms: list[str], output: str, operands: Sequence[Tensor]) -> tuple[list[str], str]:
    """Replace "..." by letters of its own."""
    sizes = [tensor.dim() - len(term.replace("...", "")) for term, tensor in zip(terms, operands, strict=True)]
    names = "ΑΒΓΔΕΖΗΘ"[: max(0, *sizes)]
    terms = [term.replace("...", names[len(names) - size :]) for term, size in zip(terms, sizes, strict=True)]
    return terms, output.replace("...", names)


def _order(term: str, other: str, output: str, summed: str) -> list[int] | None:
    """Return the axes of `term` in the order: those of both operands, its own, the summed one."""
    own_axes = [axis for axis in term if axis != summed and axis in output and axis not in other]
    both = [axis for axis in term if axis != summed and axis not in own_axes]
    if not own_axes:
        return None
    return [term.index(axis) for axis in (*both, *own_axes, summed)]


def softmax_dim(args: Any, kwargs: Any, n_dims: int) -> int:
    """Return the axis of a softmax call, as torch chooses it if there is none."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if not isinstance(dim, int):
        dim = 0 if n_dims in (0, 1, 3) else 1
    return dim % n_dims


def reduced_dims(name: str, args: Any, kwargs: Any, n_dims: int) -> tuple[int, ...]:
    """Return the axes over which a norm or reduction runs."""
    if name in ("layer_norm", "rms_norm"):
        shape = kwargs.get("normalized_shape", args[1] if len(args) > 1 else (1,))
        return tuple(range(n_dims - len(shape), n_dims))
    if name in ("group_norm", "instance_norm"):
        return tuple(range(2 if name == "instance_norm" else 1, n_dims))
    position = 2 if name in ("norm", "vector_norm") else 1
    dim = kwargs.get("dim", kwargs.get("axis", args[position] if len(args) > position else None))
    if isinstance(dim, bool) or dim is None:
        return tuple(range(n_dims))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return tuple(sorted(each % n_dims for each in dims))


def scaled_dot_product_weights(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor, float]:
    """Return weights and scores [..., queries, keys] and the scale of F.scaled_dot_product_attention's arguments."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = (query.float() * factor) @ key.float().transpose(-1, -2)
    if is_causal:
        scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), -math.inf)
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -math.inf) if is_bool else scores + attn_mask.float()
    return scores.softmax(dim=-1), scores, factor


def multi_head_weights(args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weights [B, H, queries, keys] of F.multi_head_attention_forward, and its query and key."""
    bound = _MULTI_HEAD.bind(*args, **kwargs)
    bound.apply_defaults()
    values = bound.arguments
    values |= {"need_weights": True, "average_attn_weights": False, "training": False, "dropout_p": 0.0}
    weights = F.multi_head_attention_forward(*bound.args, **bound.kwargs)[1]
    assert weights is not None
    return weights.detach(), values["query"], values["key"]
