"""The loss of programs without tokens: classifiers [B, V], two classes by one logit, regression."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.checks.loss.loss_findings import double_sigmoid, loss_finding, mistake_in, output_broadcast
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.reading import line_of
from tui_lab.core.doctor.measures.bounded_output import why_bounded
from tui_lab.core.doctor.measures.loss_forms import EVEN
from tui_lab.core.doctor.measures.loss_gradient import Measurement, trained
from tui_lab.core.doctor.program.batch import n_rows
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target


def check(target: Target) -> Iterator[Finding]:
    if (shapes := _broadcast(target)) is not None:
        yield replace(output_broadcast(*shapes), location=_line_of_broadcast(target))
        return
    measurement = trained(target)
    n_classes = measurement.logits.shape[2]
    if (evidence := _evidence_of_sigmoid(measurement, target)) is not None:
        yield replace(double_sigmoid(evidence), location=measurement.line)
        return
    if n_classes < 2 or measurement.logits.shape[1] != 1:
        raise NotJudged("it is not a cross-entropy")
    if (mistake := mistake_in(measurement)) is not None:
        yield loss_finding(*mistake, n_classes, measurement.line)
    elif measurement.reading.form in ("other", "missing_log_softmax"):
        raise NotJudged("it is not the cross-entropy of the returned scores")


def _line_of_broadcast(target: Target) -> str:
    """Return the line of the loss function of torch that gets such shapes, else that of backward(); or ""."""
    record = target.record
    if record is None or not record.updates:
        return ""
    lines = [call.line for call in record.observed.criteria if call.compares_all]
    return lines[0] if lines else line_of(record.updates[0], "backward")


class _BroadcastSearch(TorchFunctionMode):
    """Finds the operation that combines outputs [B, 1] with targets [B], which gives [B, B].

    shapes: of output and targets; None while no such operation was called.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.shapes: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [t for t in [*args[:2], *kwargs.values()] if isinstance(t, Tensor) and t.is_floating_point()]
        if len(operands) == 2 and self.shapes is None and self.rows > 1:
            output, targets = sorted(operands, key=lambda operand: not operand.requires_grad)
            # Of two tensors with gradients, all pairs of rows may be meant, as in contrastive losses.
            if output.requires_grad and not targets.requires_grad and _pairs_up(output, targets, self.rows):
                result = func(*args, **kwargs)
                if not isinstance(result, Tensor) or result.dim() == 0 or result.shape == (self.rows, self.rows):
                    self.shapes = tuple(output.shape), tuple(targets.shape)
                return result
        return func(*args, **kwargs)


def _pairs_up(output: Tensor, targets: Tensor, rows: int) -> bool:
    """Return whether the shapes are [rows, 1] and [rows]."""
    return {tuple(output.shape), tuple(targets.shape)} == {(rows, 1), (rows,)}


def _broadcast(target: Target) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shapes of outputs and targets if the loss pairs each output with every target, else None."""
    batch = target.batch(0)
    rows = n_rows(batch)
    # The loss of a script may take its targets from a tensor of the whole data.
    has_targets = any(t.is_floating_point() and t.shape in ((rows,), (rows, 1)) for t in tensors_of(batch))
    if not has_targets and target.record is None:
        return None
    search = _BroadcastSearch(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Torch warns of exactly this.
        if target.loss_function is not None:
            with target.evaluating(), search:
                target.loss(batch)
        elif target.optimizers:
            trial = target.fresh()
            with search:
                trial.apply_update(batch)
    return search.shapes


def _evidence_of_sigmoid(measurement: Measurement, target: Target) -> str | None:
    """Return the evidence if a sigmoid comes before a binary cross-entropy that includes one, else None.

    The gradient of the latter is σ(z) − y: of one sign for y = 0 and of the other for y = 1, with equal weights.
    """
    z, g = measurement.logits.double().flatten(), measurement.gradient.double().flatten()
    z, g = z[g != 0], g[g != 0]
    if len(z) < 2 or not _has_binary_targets(target) or measurement.logits.shape[2] > 1 and not bool((g > 0).any()):
        return None
    y = (g < 0).double()
    s = z.sigmoid()
    inside = bool(((z > 0) & (z < 1)).all())
    if inside and _spread(g / (s - y)) <= EVEN and _spread(g * z * (1 - z) / (z - y)) > 2 * EVEN:
        why = why_bounded(target)
        return f"{why}, and the gradient of the loss is σ(output) − target" if why else None
    twice = (s.sigmoid() - y) * s * (1 - s)
    if _spread(g / twice) <= EVEN / 4 and _spread(g / (s - y)) > EVEN:
        return "the gradient of the loss is that of a binary cross-entropy with logits of sigmoid(output)"
    return None


def _has_binary_targets(target: Target) -> bool:
    """Return whether the batch has a tensor, other than its first, of zeros and ones only."""
    later_tensors = list(tensors_of(target.probe.batch))[1:]
    return any(bool(((t == 0) | (t == 1)).all()) for t in later_tensors)


def _spread(weights: Tensor) -> float:
    """Return the relative standard deviation of weights [N]; infinite if one is not finite."""
    if not bool(torch.isfinite(weights).all()):
        return float("inf")
    return float(weights.std() / weights.mean().abs().clamp(min=1e-60))
