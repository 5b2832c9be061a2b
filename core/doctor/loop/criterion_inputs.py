"""What loss functions of torch get: logarithms of probabilities, probabilities, or scores."""

from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.observed import CriterionCall, InputForm

NAMES = ("kl_div", "nll_loss", "cross_entropy", "binary_cross_entropy_with_logits")
MAX_CALLS = 4
"""Of each line, which are looked at."""
MAX_ELEMENTS = 2**22
TOLERANCE = 0.02
"""How far probabilities may add up to something else than one: rounding in bfloat16 gives 0.01."""
MIN_SHARE = 0.9
"""Of the rows that must have a form."""
_RESHAPING = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Select", "Slice", "Index",
    "ToCopy", "Clone", "Alias", "T", "Expand", "Cat", "Split", "Unbind",
)  # fmt: skip
_MAKERS = {
    **{"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid", "LogSigmoid": "logsigmoid"},
    **dict.fromkeys(("Addmm", "Mm", "Bmm", "Linear", "Addmv", "Mv"), "linear"),
}


class CriterionInputs:
    """Keeps the form of the inputs of the first calls of each line."""

    def __init__(self) -> None:
        self.calls: list[CriterionCall] = []
        self._n: dict[tuple[str, str], int] = {}

    def add(self, name: str, line: str, options: dict[str, Any], targets: Tensor) -> None:
        """Look at one call. options: with its `input`."""
        inputs = options.get("input")
        key = (name, line)
        if name not in NAMES or not isinstance(inputs, Tensor) or self._n.get(key, 0) >= MAX_CALLS:
            return
        self._n[key] = self._n.get(key, 0) + 1
        values = inputs.detach()
        if values.numel() > MAX_ELEMENTS or values.dim() == 0 or values.numel() == 0:
            return
        log_target = bool(options.get("log_target", False))
        form, total = _form(name, values.float(), targets.detach(), log_target=log_target)
        shape = tuple(inputs.shape)
        self.calls.append(
            CriterionCall(name, line, form, shape, total, made_by(inputs), log_target, reshaped_from(inputs))
        )


def made_by(tensor: Tensor) -> str:
    """Return which operation gave a tensor, not counting reshapes: a value of _MAKERS, or "" for any other."""
    node: Any = tensor.grad_fn
    for _ in range(12):
        if node is None:
            return ""
        name = node.name().rstrip("0123456789").removesuffix("Backward").lstrip("_")
        if name in _MAKERS:
            return _MAKERS[name]
        following = [parent for parent, _ in node.next_functions if parent is not None]
        if name not in _RESHAPING or not following:
            return ""
        node = following[0]
    return ""


def reshaped_from(inputs: Tensor) -> tuple[int, ...]:
    """Return the shape [B, …, V] of the tensor of which an input [B, V, …] is a view; empty if it is no such view.

    Such a view does not move the classes to the second dimension: it mixes positions and classes.
    """
    sizes = tuple(getattr(inputs.grad_fn, "_saved_self_sym_sizes", ()))
    if inputs.dim() < 3 or len(sizes) != inputs.dim() or not all(isinstance(size, int) for size in sizes):
        return ()
    moved = (sizes[0], sizes[-1], *sizes[1:-1])
    return sizes if moved == tuple(inputs.shape) != sizes else ()


def _form(name: str, inputs: Tensor, targets: Tensor, *, log_target: bool) -> tuple[InputForm, float]:
    if name == "kl_div":
        return _of_kl_div(inputs, targets.float(), log_target=log_target)
    if name == "nll_loss":
        return _over_classes(inputs, 1 if inputs.dim() > 1 else 0, None)
    if name == "binary_cross_entropy_with_logits" and inputs.numel() >= 16 and float(inputs.std()) > 0.01:
        is_unit = bool(((inputs >= 0) & (inputs <= 1)).all())
        return ("unit values" if is_unit else "scores"), 1.0
    return "unknown", 1.0


def _of_kl_div(inputs: Tensor, targets: Tensor, *, log_target: bool) -> tuple[InputForm, float]:
    """Return the form along the axis over which the targets are probabilities."""
    if inputs.shape != targets.shape:
        return "unknown", 1.0
    probabilities = targets.exp() if log_target else targets
    for dim in reversed(range(inputs.dim())):
        if inputs.shape[dim] < 2 or bool((probabilities < 0).any()):
            continue
        sums_to_one = (probabilities.sum(dim) - 1).abs() < TOLERANCE
        if float(sums_to_one.float().mean()) > 0.5:
            return _over_classes(inputs, dim, sums_to_one)
    return "unknown", 1.0


def _over_classes(inputs: Tensor, dim: int, counted: Tensor | None) -> tuple[InputForm, float]:
    """Return the form of inputs along an axis, and the mean of Σ exp or of Σ. counted: the rows that are judged."""
    if inputs.shape[dim] < 2:
        return "unknown", 1.0

    def kept(rows: Tensor) -> Tensor:
        return rows.reshape(-1) if counted is None else rows[counted]

    logsumexp = kept(inputs.logsumexp(dim))
    sums = kept(inputs.sum(dim))
    smallest = kept(inputs.amin(dim))
    largest = kept(inputs.amax(dim))

    def mostly(rows: Tensor) -> bool:
        return float(rows.float().mean()) > MIN_SHARE

    total = float(logsumexp.exp().mean())
    if mostly((smallest >= 0) & ((sums - 1).abs() < TOLERANCE)):
        return "probabilities", float(sums.mean())
    if mostly(logsumexp.abs() < TOLERANCE):
        return "log-probabilities", total
    if mostly(logsumexp.abs() > 5 * TOLERANCE) and bool(torch.isfinite(logsumexp).all()):
        # Logarithms of probabilities, even of some that do not add up to one, are never above 0.
        has_positive = float((largest > TOLERANCE).float().mean()) > 1 - MIN_SHARE
        return ("scores" if has_positive else "unknown"), total
    return "unknown", total
