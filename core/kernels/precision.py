"""Mixed precision: products in bfloat16 or float16, while weights, gradients and the optimizer stay in float32.

This is what torch.autocast does (Micikevicius et al. 2018, "Mixed precision training"). The model enters autocast
itself, so training, evaluation, generation and inspection all compute the same.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
"""What the model computes in. TF32 is none of these: tensors are float32, and `float32_products` rounds inside."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of 16 bits as float32, and any other as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def dtype_of(precision: Precision) -> torch.dtype:
    """Return the dtype of the products in a precision."""
    return _DTYPES[precision]


def without_tf32(precision: Literal["fp32", "tf32", "bf16", "fp16"]) -> Precision:
    """Return the precision of a model whose run has `train.precision = precision`."""
    return "fp32" if precision == "tf32" else precision


@contextmanager
def float32_products(precision: str, device: torch.device) -> Iterator[None]:
    """While it lasts, a GPU multiplies float32 as `train.precision` says: exactly for fp32, by TF32 for tf32.

    The setting of torch is global, and nothing changes for other devices and precisions. TF32 rounds each factor to 10
    bits of mantissa and adds in float32 (NVIDIA A100 Tensor Core GPU Architecture).
    """
    if device.type != "cuda" or precision not in ("fp32", "tf32"):
        yield
        return
    before = _float32_matmul_precision()
    # Not torch.backends.cuda.matmul.fp32_precision: once that is set alone, torch.compile cannot read the other.
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _float32_matmul_precision() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # A user's model has set torch.backends.cuda.matmul.fp32_precision.
        return "high" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "highest"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a model's forward pass computes in `precision` on `device`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype_of(precision))
