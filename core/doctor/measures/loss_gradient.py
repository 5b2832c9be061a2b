"""The gradient of a training's loss with respect to the model's logits: what every position is trained on.

It is measured for the loss that the user states, by a forward pass and autograd, and for an update, by hooks on the
model's outputs. The loss may be anywhere, also in the model, as long as the model returns the logits that it uses.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.measures.loss_forms import Reading, read
from tui_lab.core.doctor.measures.update_trace import UpdateTrace
from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.doctor.program.once import once_per_target
from tui_lab.core.doctor.program.target import Target

KEPT_ELEMENTS = 2**24
"""Logits that are kept of one forward pass: 64 MiB in float32. The rows after them are left out."""


@dataclass(frozen=True)
class Measurement:
    """The gradient of one loss with respect to logits.

    logits, gradient: [B, T, V]; of class scores [B, V], T is 1. x: ids [B, T]. y: targets [B, T] as the batch has them.
    value: of the loss. n_counted: the positions with a gradient, those of rows that were not kept included.
    n_rows: all rows. line: of the backward call.
    """

    logits: Tensor
    gradient: Tensor
    x: Tensor | None = None
    y: Tensor | None = None
    value: float | None = None
    n_counted: int = 0
    n_rows: int = 0
    line: str = ""

    @cached_property
    def reading(self) -> Reading:
        return read(self.logits, self.gradient)

    @property
    def total_weight(self) -> float:
        """The sum of the weights of all positions: 1 for a mean, `n_counted` for a sum."""
        kept = int(self.reading.counted.sum())
        return self.reading.total * self.n_counted / kept if kept else 0.0


@once_per_target
def stated(target: Target) -> Measurement:
    """Measure the loss that the user states, on the probe in evaluation mode.

    Raises NotJudged if no loss is stated, or if it does not use the logits that the model returns.
    """
    if target.loss_function is None:
        raise NotJudged("no loss function was given, so torch's cross-entropy is assumed")
    return measured_loss(target, target.probe.batch)


@once_per_target
def of_update(target: Target) -> list[Measurement]:
    """Measure the losses of one update of a copy, one for each backward call, on the probe, without dropout.

    Raises NotJudged if there is no optimizer or the loss does not use the logits that the model returns.
    """
    target.require_optimizers()
    trace = UpdateTrace(target.fresh())
    trace.run(target.probe.batch)
    measured = measurements_of(trace)
    if not measured:
        raise NotJudged("the update's loss is not computed from the logits that the model returns")
    tokens = target.tokens
    if len(measured) == 1 and tokens is not None and tokens.y is not None:
        y = tokens.y(target.probe.batch)
        if y.shape == measured[0].logits.shape[:2]:
            return [_measurement(measured[0].logits, measured[0].gradient, x=measured[0].x, y=y)]
    return measured


def trained(target: Target) -> Measurement:
    """Return the best measurement of what is trained: of the real loop, the stated loss or a trial's update."""
    if target.record is not None and target.record.measurements:
        return recorded(target)[0]
    if target.loss_function is not None:
        return stated(target)
    return of_update(target)[0]


def recorded(target: Target) -> list[Measurement]:
    """Return the measurements of the real loop; empty without a record."""
    if target.record is None:
        return []
    measured = []
    for one in target.record.measurements:
        if one.logits.dim() < 2 or one.logits.shape != one.gradient.shape:
            continue
        logits = _three_axes(one.logits)
        gradient = _three_axes(one.gradient)
        shape = logits.shape[:2]
        x = one.x if one.x is not None and one.x.shape == shape else None
        y = one.targets.reshape(shape) if one.targets is not None and one.targets.numel() == shape.numel() else None
        y = y if y is not None and not y.is_floating_point() else None
        measured.append(_measurement(logits, gradient, x=x, y=y, value=one.value, line=one.line))
    return measured


def measured_loss(target: Target, batch: Batch) -> Measurement:
    """Measure the stated loss on any batch in evaluation mode. Raises NotJudged as `stated` does."""
    outputs: list[Any] = []
    handle = target.model.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        with target.evaluating(), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The user has seen them in training.
            loss = target.loss(batch)
    finally:
        handle.remove()
    if not isinstance(loss, Tensor) or loss.dim() or not loss.requires_grad:
        raise NotJudged("the loss is not a scalar with a gradient")
    for output in reversed(outputs):
        pair = _gradient(target, output, lambda tensors: torch.autograd.grad(loss, tensors, allow_unused=True))
        if pair is not None:
            return _of_pair(target, batch, *pair, float(loss.detach()))
    return _by_output_loss(target, batch)


def _by_output_loss(target: Target, batch: Batch) -> Measurement:
    """Measure a loss that can be computed from logits alone, for a model that does not use the logits it returns."""
    unused = NotJudged("the loss is not computed from the logits that the model returns")
    if target.output_loss is None:
        raise unused
    with target.evaluating(), torch.no_grad():
        logits = scores(target, target.output(batch)).detach()
    leaf = logits.clone().requires_grad_()
    try:
        with torch.enable_grad():
            loss = target.output_loss(leaf, batch)
        (gradient,) = torch.autograd.grad(loss, [leaf])
    except Exception as error:
        raise unused from error
    return _of_pair(target, batch, logits, gradient, float(loss.detach()))


def scores(target: Target, output: Any) -> Tensor:
    """Return the logits [B, T, V] of a program over tokens, else the only float tensor [B, V] or [B] that it returns.

    Raises NotJudged if there is no such tensor.
    """
    if target.tokens is not None:
        return target.tokens.logits(output)
    matrices = [t for t in tensors_of(output) if t.is_floating_point() and t.dim() in (1, 2)]
    if len(matrices) != 1:
        raise NotJudged("the model does not return one tensor of scores [B, V] or [B]")
    return matrices[0]


def _gradient(target: Target, output: Any, gradients: Callable[[list[Tensor]], Any]) -> tuple[Tensor, Tensor] | None:
    """Return the logits in a model's output and the gradient with respect to them, or None if they are not used.

    `gradients` returns those of the tensors that it is given, None for unused ones.
    """
    tensors = [t for t in tensors_of(output) if t.is_floating_point() and t.requires_grad and t.dim()]
    if not tensors:
        return None
    try:
        logits = scores(target, output)
    except Exception:  # The view is for what `forward` returns, which need not be what the module returns.
        return None
    values = dict(zip(map(id, tensors), gradients(tensors), strict=True))
    if id(logits) in values:
        gradient = values[id(logits)]
        return None if gradient is None else (logits, gradient)
    # The view cuts, transposes or converts what the model returned: do the same to the gradients.
    try:
        like = mapped(output, lambda t: _or_zero(values.get(id(t)), t))
        gradient = scores(target, like)
    except Exception:
        return None
    if gradient.shape != logits.shape or not bool(gradient.any()):
        return None
    return logits, gradient


def _or_zero(gradient: Tensor | None, tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if gradient is None else gradient


def _three_axes(scores: Tensor) -> Tensor:
    """Return scores [B, V] or [B] as [B, 1, V] or [B, 1, 1]."""
    if scores.dim() == 1:
        return scores[:, None, None]
    return scores[:, None] if scores.dim() == 2 else scores


def _of_pair(target: Target, batch: Batch, logits: Tensor, gradient: Tensor, value: float | None) -> Measurement:
    """Return the measurement with the ids and targets of the batch, where they have the shape of the logits.

    Logits [T, B, V], as the model itself returns them, are turned to the form of the ids [B, T].
    """
    logits = _three_axes(logits)
    gradient = _three_axes(gradient)
    x = y = None
    if target.tokens is not None:
        x = target.tokens.x(batch)
        y = target.tokens.y(batch) if target.tokens.y is not None else None
        if logits.shape[:2] != x.shape and logits.shape[:2] == x.shape[::-1]:
            logits, gradient = logits.transpose(0, 1), gradient.transpose(0, 1)
    else:
        y = class_labels(batch)
    shape = logits.shape[:2]
    return _measurement(
        logits,
        gradient,
        x=x if x is not None and x.shape == shape else None,
        y=y if y is not None and y.shape == shape else None,
        value=value,
    )


def class_labels(batch: Batch) -> Tensor | None:
    """Return the labels [B, 1] of a classifier: the only int64 tensor [B] of the batch, or None."""
    rows = n_rows(batch)
    labels = [t for t in tensors_of(batch) if t.dtype == torch.int64 and t.shape == (rows,)]
    return labels[0][:, None] if len(labels) == 1 else None


def _measurement(
    logits: Tensor,
    gradient: Tensor,
    *,
    x: Tensor | None = None,
    y: Tensor | None = None,
    value: float | None = None,
    line: str = "",
) -> Measurement:
    """Keep the first rows of what was measured. Raises NotJudged if it is not finite or does not fit."""
    if logits.dim() != 3 or logits.shape != gradient.shape:
        raise NotJudged("the model does not return logits [B, T, V]")
    n_counted = int((gradient != 0).any(dim=-1).sum())
    rows = max(1, KEPT_ELEMENTS // max(1, logits[0].numel()))
    kept_logits = logits[:rows].detach()
    kept = gradient[:rows].detach()
    if not bool(torch.isfinite(kept_logits).any()) or not bool(torch.isfinite(kept).all()):
        raise NotJudged("the gradient of the loss is not finite")
    return Measurement(
        logits=kept_logits,
        gradient=kept,
        x=None if x is None else x[:rows].to(kept.device),
        y=None if y is None else y[:rows].to(kept.device),
        value=value,
        n_counted=n_counted,
        n_rows=len(logits),
        line=line,
    )


def measurements_of(trace: UpdateTrace) -> list[Measurement]:
    """Return one measurement for each forward pass whose logits got a gradient. Raises NotJudged as `of_update`."""
    measured = []
    for forward in trace.forwards:
        pair = _gradient(trace.trial, forward.output, partial(_by_id, forward.gradients))
        if pair is None:
            continue
        logits = _three_axes(pair[0])
        x = forward.ids if forward.ids is not None and forward.ids.shape == logits.shape[:2] else None
        measured.append(_measurement(logits, _three_axes(pair[1]), x=x))
    return measured


def _by_id(gradients: dict[int, Tensor], tensors: list[Tensor]) -> list[Tensor | None]:
    return [gradients.get(id(tensor)) for tensor in tensors]
