"""Products of activations and weights, by whichever of torch's two CPU libraries is the faster on this machine.

torch multiplies float32 matrices by BLAS (MKL in its x86 wheels). It also carries oneDNN, which compiles its kernels
for the processor at hand: on an AMD Zen 5, where MKL keeps to AVX2, they are twice as fast in the same arithmetic.
torch takes them for convolutions and for bfloat16; for float32 there is only the operator below, which its own compiler
emits. It has no gradient, so `_OneDnnLinear` gives it one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Engine = Literal["blas", "onednn"]

SMALLEST = 2**24
"""Multiplications from which a product goes to oneDNN: below, a Python function costs what the library saves."""


@dataclass(frozen=True)
class Kernels:
    """How the same arithmetic is done. head_rows: rows of the head that are computed at once, where it is chunked."""

    engine: Engine = "blas"
    head_rows: int = 128

    def __post_init__(self) -> None:
        if self.engine not in ("blas", "onednn") or self.head_rows < 1:
            raise ValueError(f"no kernels: {self.engine!r}, {self.head_rows} rows")


def onednn_available() -> bool:
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_linear(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a bᵀ + bias by oneDNN, without gradients: float32 a [M, K], b [N, K] of any strides, bias [N] → [M, N]."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return product


def weight_gradient(g: Tensor, x: Tensor) -> Tensor:
    """gᵀ x by oneDNN: g [M, N], x [M, K] → [N, K]. The first operand is copied to be transposed: it is the smaller."""
    if g.shape[1] <= x.shape[1]:
        return onednn_linear(g.t(), x.t())
    return onednn_linear(x.t(), g.t()).t()


SMALLEST_ALONE = 2**20
"""The same where no gradient is wanted, so that no Python function stands between."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, engine: Engine) -> Tensor:
    """x weightᵀ + bias: x [..., K], weight [N, K], bias [N] → [..., N]."""
    if engine == "blas":
        return F.linear(x, weight, bias)
    size, learning = x.numel() * weight.shape[0], torch.is_grad_enabled()
    if size < (SMALLEST if learning else SMALLEST_ALONE) or not _plain(x, weight):
        return F.linear(x, weight, bias)
    if not learning:
        return onednn_linear(x, weight, bias)
    product: Tensor = _OneDnnLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


def prepacked_linear(weight: Tensor, bias: Tensor | None, engine: Engine) -> Callable[[Tensor], Tensor]:
    """x → x weightᵀ + bias, without gradients, for many x [..., K] to come: weight [N, K], bias [N] → [..., N].

    oneDNN reads a weight in an order of its own. To copy it into that order takes as long as some ten products of one
    row, each of which is then twice as fast. Later changes of the weight are not seen.
    """
    reorder = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
    if engine == "blas" or reorder is None or weight.numel() < SMALLEST_ALONE or not _plain(weight, weight):
        return lambda x: F.linear(x, weight, bias)
    ordered = reorder(weight.detach())
    return lambda x: onednn_linear(x, ordered, bias)


def _plain(x: Tensor, weight: Tensor) -> bool:
    return x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"


class _OneDnnLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, entries = g.flatten(0, -2).contiguous(), x.flatten(0, -2)  # [M, N], [M, K]
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            onednn_linear(rows, weight.t()).view_as(x) if needs_x else None,
            weight_gradient(rows, entries) if needs_weight else None,
            rows.sum(dim=0) if needs_bias else None,
        )
