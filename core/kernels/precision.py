"""Mixed precision: products in bfloat16 or float16, while weights, gradients and the optimizer stay in float32.

This is what torch.autocast does (Micikevicius et al. 2018, "Mixed precision training"). The model enters autocast
itself, so training, evaluation, generation and inspection all compute the same.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of 16 bits as float32, and any other as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def dtype_of(precision: Precision) -> torch.dtype:
    return _DTYPES[precision]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a model's forward pass computes in `precision` on `device`."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype_of(precision))
