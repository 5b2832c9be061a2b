"""Why an operation on finite numbers gives a number that is not."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tui_lab.core.nonfinite.ranges import has_values, real
from tui_lab.core.nonfinite.record import Cause, Kind

_DIVISORS = {"div": 1, "div_": 1, "true_divide": 1, "remainder": 1, "reciprocal": 0, "rsqrt": 0}
"""Operations, and which of their arguments divides."""
_LOGARITHMS = ("log", "log_", "log2", "log10", "log1p", "xlogy", "logit")
_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "matmul", "mul", "mul_", "dot", "_linear_pointwise", "convolution")
_INSIDE = ("attention", "softmax", "norm", "sum", "mean", "var", "cumsum")
"""Parts of the names of operations in which a sum or a product may overflow and become NaN."""


def cause_of(operation: str, arguments: Sequence[object], inputs: Sequence[Tensor], kind: Kind) -> Cause:
    """Return the cause for an operation without non-finite inputs. arguments: all of them, in torch's order."""
    place = _DIVISORS.get(operation)
    if place is not None and place < len(arguments) and _has_zero(arguments[place]):
        return "division_by_zero"
    if operation == "pow" and kind != "nan" and inputs and _has_zero(inputs[0]) and _is_negative(arguments[1:]):
        return "division_by_zero"
    if operation in _LOGARITHMS and kind == "-inf":
        return "log_of_zero"
    if kind != "nan":
        return "overflow"
    return "overflow" if _may_overflow(operation, inputs) else "invalid"


def _has_zero(value: object) -> bool:
    if isinstance(value, Tensor):
        return bool((value == 0).any())
    return isinstance(value, int | float) and value == 0


def _is_negative(arguments: Sequence[object]) -> bool:
    exponent = arguments[0] if arguments else 0
    if isinstance(exponent, Tensor):
        return bool((exponent < 0).any())
    return isinstance(exponent, int | float) and exponent < 0


def _may_overflow(operation: str, inputs: Sequence[Tensor]) -> bool:
    """Return whether products or squares of the inputs exceed their dtype.

    The NaN may then be inf − inf or inf · 0.
    """
    if operation not in _PRODUCTS and not any(part in operation for part in _INSIDE):
        return False
    values = [t for t in inputs if has_values(t)]
    if not values:
        return False
    largest = sorted((float(real(t).abs().max()) for t in values), reverse=True)
    product = largest[0] * (largest[1] if len(largest) > 1 else largest[0])
    limit = min(torch.finfo(t.dtype if t.is_floating_point() else torch.float32).max for t in values)
    return max(product, largest[0] ** 2) > limit
