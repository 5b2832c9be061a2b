"""What loss functions of torch get: logarithms of probabilities, probabilities, or scores."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.observed import CriterionCall, InputForm

ELEMENTWISE = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
"""Loss functions that compare each value with its target, after both were broadcast to one shape."""
OF_CLASSES = ("kl_div", "nll_loss", "cross_entropy")
OF_TWO = ("binary_cross_entropy_with_logits", "binary_cross_entropy")
OF_LABELS = (*OF_TWO, "cross_entropy")
"""Loss functions that take a target of 0 or 1 for each label of a row."""
NAMES = (*OF_CLASSES, *OF_TWO, *ELEMENTWISE)
MAX_CALLS = 4
"""Of each line and place, which are looked at."""
MAX_PLACES = 8
"""Calls of one line in an update: a line may compute the losses of several heads."""
MAX_ELEMENTS = 2**22
TOLERANCE = 0.02
"""How far probabilities may add up to something else than one: rounding in bfloat16 gives 0.01."""
MIN_SHARE = 0.9
"""Of the rows that must have a form."""
_RESHAPING = (
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Select", "Slice", "Index",
    "ToCopy", "Clone", "Alias", "T", "Expand", "Cat", "Split", "Unbind",
)  # fmt: skip
_BOUNDING = ("Clamp", "ClampMin", "ClampMax", "Relu", "Hardtanh")
_AFFINE = ("Addmm", "Linear")
"""What a linear layer with a bias calls."""
SOFTMAX_OF_ONE = "softmax of one value"
UNBOUNDED = "linear, without sigmoid"
_MAKERS = {
    **{"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid", "LogSigmoid": "logsigmoid"},
    **dict.fromkeys(("Addmm", "Mm", "Bmm", "Linear", "Addmv", "Mv"), "linear"),
}


class CriterionInputs:
    """Keeps the form of the inputs of the first calls of each line, and of each place among its calls of an update."""

    def __init__(self) -> None:
        self.calls: list[CriterionCall] = []
        self._n: dict[tuple[str, str, int], int] = {}
        self._latest: dict[tuple[str, str], tuple[int, int]] = {}
        """The update and the place of the latest call of each line."""

    def add(self, name: str, line: str, options: dict[str, Any], targets: Tensor, update: int) -> None:
        """Look at one call. options: with its `input`. update: how many updates there were before."""
        inputs = options.get("input")
        latest, place = self._latest.get((name, line), (update, -1))
        place = place + 1 if latest == update else 0
        self._latest[name, line] = (update, place)
        key = (name, line, place)
        if place >= MAX_PLACES:
            return
        if name not in NAMES or not isinstance(inputs, Tensor) or self._n.get(key, 0) >= MAX_CALLS:
            return
        self._n[key] = self._n.get(key, 0) + 1
        values = inputs.detach()
        if values.numel() > MAX_ELEMENTS or values.dim() == 0 or values.numel() == 0:
            return
        log_target = bool(options.get("log_target", False))
        form, total = _form(name, values.float(), targets.detach(), log_target=log_target)
        self.calls.append(
            CriterionCall(
                name,
                line,
                form,
                tuple(inputs.shape),
                total,
                _maker_for(name, inputs),
                log_target,
                reshaped_from(inputs),
                tuple(targets.shape) if name in ELEMENTWISE else (),
                _share_of_several(values, targets.detach()) if name in OF_LABELS else 0.0,
                place,
            )
        )


def _maker_for(criterion: str, inputs: Tensor) -> str:
    """Return which operation gave the input of a loss function, or UNBOUNDED for one that expects a sigmoid's result.

    A clamp or ReLU keeps the output of a linear layer between 0 and 1 without making a probability of it.
    """
    if criterion == "binary_cross_entropy" and _operation(_maker(inputs, (*_RESHAPING, *_BOUNDING))) in _AFFINE:
        return UNBOUNDED
    return made_by(inputs)


def made_by(tensor: Tensor) -> str:
    """Return which operation gave a tensor, not counting reshapes: a value of _MAKERS, or "" for any other.

    SOFTMAX_OF_ONE for a softmax over an axis of one value.
    """
    node = _maker(tensor, _RESHAPING)
    made = _MAKERS.get(_operation(node), "")
    return SOFTMAX_OF_ONE if made == "softmax" and _softmax_size(node) == 1 else made


def is_reshaped(tensor: Tensor, source: Tensor) -> bool:
    """Return whether a tensor was made of `source` by views, slices, copies and the like alone."""
    if tensor is source:
        return True
    node: Any = tensor.grad_fn
    for _ in range(12):
        if node is source.grad_fn or _operation(node) not in _RESHAPING:
            break
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return node is not None and node is source.grad_fn


def _maker(tensor: Tensor, passed: Sequence[str]) -> Any:
    """Return the node of the graph that gave a tensor, but for operations that are passed; None if there is none."""
    node: Any = tensor.grad_fn
    for _ in range(12):
        if node is None or _operation(node) not in passed:
            return node
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return None


def _operation(node: Any) -> str:
    return "" if node is None else node.name().rstrip("0123456789").removesuffix("Backward").lstrip("_")


def _softmax_size(node: Any) -> int:
    """Return over how many values a softmax runs."""
    dim = int(node._saved_dim)
    result: Tensor = node._saved_result
    return result.shape[dim - 2**64 if dim >= 2**63 else dim]  # Torch keeps a negative axis without its sign.


def _share_of_several(inputs: Tensor, targets: Tensor) -> float:
    """Return the fraction of rows with several targets of 1; 0 if targets are not zeros and ones for each label."""
    if not targets.is_floating_point() or targets.shape != inputs.shape or targets.dim() != 2:
        return 0.0
    if not bool(((targets == 0) | (targets == 1)).all()):
        return 0.0
    return float((targets.sum(dim=1) > 1).float().mean())


def reshaped_from(inputs: Tensor) -> tuple[int, ...]:
    """Return the shape [B, …, V] of the tensor of which an input [B, V, …] is a view; empty if it is not such a view.

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
