"""Products of activations and weights with either of torch's two CPU libraries, BLAS or oneDNN.

torch multiplies float32 matrices with BLAS (MKL in its x86 wheels). It also contains oneDNN, which compiles kernels for
the processor it runs on: on an AMD Zen 5, where MKL uses AVX2 only, they are twice as fast in the same arithmetic.
torch uses oneDNN for convolutions and bfloat16; for float32 there is only the operator below, which torch.compile
emits. It has no gradient, so `_OneDnnLinear` adds one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tui_lab.core.kernels.precision import Precision

Engine = Literal["blas", "onednn"]

SMALLEST = 2**24
"""Multiplications from which a product uses oneDNN; for fewer, calling a Python function costs what oneDNN saves."""
SMALLEST_WITHOUT_GRADIENT = 2**20
"""The same without gradients, where no Python function is called."""


@dataclass(frozen=True)
class Kernels:
    """How the matrix products are computed.

    engine: for float32. head_rows: rows per chunk where the head is computed in chunks.
    """

    engine: Engine = "blas"
    head_rows: int = 128
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        is_known = self.engine in ("blas", "onednn") and self.precision in ("fp32", "bf16", "fp16")
        if not is_known or self.head_rows < 1:
            raise ValueError(f"invalid kernels: {self}")


def onednn_available() -> bool:
    """Return whether this build of torch has oneDNN and its operator for linear maps."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return built and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def onednn_has_bf16() -> bool:
    """Return whether oneDNN multiplies bfloat16 on this processor: x86 from AVX-512 on, ARM with its bf16 instructions.

    Elsewhere `onednn_linear` raises, and F.linear multiplies without a fast kernel.
    """
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return onednn_available() and supported is not None and bool(supported())


def onednn_linear(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a bᵀ + bias, without gradients: a [M, K], b [N, K] of any strides, bias [N] → [M, N].

    float32, or bfloat16 where `onednn_has_bf16`.
    """
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return product


def weight_gradient(g: Tensor, x: Tensor) -> Tensor:
    """Return gᵀ x: g [M, N], x [M, K] → [N, K]."""
    # oneDNN copies a first operand that is transposed, so the smaller one comes first.
    if g.shape[1] <= x.shape[1]:
        return onednn_linear(g.t(), x.t())
    return onednn_linear(x.t(), g.t()).t()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, engine: Engine) -> Tensor:
    """Return x weightᵀ + bias: x [..., K], weight [N, K], bias [N] → [..., N]. torch.compile chooses its own kernel."""
    if engine == "blas" or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    multiplications = x.numel() * weight.shape[0]
    needs_gradient = torch.is_grad_enabled()
    smallest = SMALLEST if needs_gradient else SMALLEST_WITHOUT_GRADIENT
    if multiplications < smallest or not _is_supported(x, weight):
        return F.linear(x, weight, bias)
    if not needs_gradient:
        return onednn_linear(x, weight, bias)
    product: Tensor = _OneDnnLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return product


def prepacked_linear(weight: Tensor, bias: Tensor | None, engine: Engine) -> Callable[[Tensor], Tensor]:
    """Return the function x → x weightᵀ + bias, without gradients: x [..., K], weight [N, K], bias [N] → [..., N].

    It is for many calls: copying the weight into oneDNN's own order takes as long as about ten products of one row,
    each of which is then twice as fast. Later changes of the weight have no effect.
    """
    reorder = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
    if (
        engine == "blas"
        or reorder is None
        or weight.numel() < SMALLEST_WITHOUT_GRADIENT
        or not _is_supported(weight, weight)
    ):
        return lambda x: F.linear(x, weight, bias)
    ordered = reorder(weight.detach())
    return lambda x: onednn_linear(x, ordered, bias)


def _is_supported(x: Tensor, weight: Tensor) -> bool:
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
