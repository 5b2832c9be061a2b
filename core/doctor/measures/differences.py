"""How far outputs of the same inputs are apart, and how far rounding alone brings them apart."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

ROUNDINGS = 10
"""Times the precision that rounding may change an output by. 21 decoders and encoder-decoders of transformers, eight of
x-transformers, of 2 to 12 layers, untrained and after 40 to 100 updates, with a cache against without one and short
rows against long ones: up to 1.1 times in bfloat16 (8.7e-3) and float16 (1e-3), up to 4e-7 in float32."""
SMALLEST_ALLOWED = 3e-4
"""The same models in float32 with a mistake (a mask or cache ignored, positions from the wrong end, a factor of the
length or the mode): from 3.9e-3 on, most of them 0.02 to 0.6."""


def relative_difference(output: Tensor, reference: Tensor, counted: Tensor | None = None) -> float:
    """Return the largest difference of two outputs [..., C], relative to the range of the reference's finite values.

    counted: bool [...], the positions that are compared; None: all. A difference of infinity and itself, and one of a
    NaN, is none.
    """
    differences = (output.float() - reference.float()).nan_to_num(0.0).abs()
    if counted is not None:
        differences = differences * counted[..., None]
    finite = reference[torch.isfinite(reference)].float()
    if not differences.numel() or not finite.numel():
        return 0.0
    value_range = finite.max() - finite.min() or finite.abs().max()
    return float(differences.max() / value_range.clamp(min=1e-6))


class Precision(TorchFunctionMode):
    """Sees in which precision the passes compute that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.coarsest = torch.finfo(torch.float32).eps
        """The largest relative distance of two neighboring numbers among the types of the results."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point():
            self.coarsest = max(self.coarsest, _precision(getattr(func, "__name__", ""), result))
        return result

    @property
    def allowed(self) -> float:
        """The relative difference of two outputs that rounding may cause."""
        return max(SMALLEST_ALLOWED, ROUNDINGS * self.coarsest)


def _precision(name: str, result: Tensor) -> float:
    """Return the relative precision of a result of torch's function `name`; TensorFloat-32 has 10 bits."""
    if result.dtype == torch.float32 and result.is_cuda:
        is_convolution = name.startswith("conv")
        setting = torch.get_float32_matmul_precision()
        if setting != "highest" or (is_convolution and torch.backends.cudnn.allow_tf32):
            return torch.finfo(torch.bfloat16 if setting == "medium" else torch.float16).eps
    return torch.finfo(result.dtype).eps
