"""Recognizes the form of a program from its model and one batch: how the model is called, and where its loss is.

Every way that the batch allows is tried, and the first whose output fits the targets is taken. Batches whose rows lie
along the second axis, as nn.LSTM takes them by default, are turned, so that checks find rows along the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.program.batch import Batch, first_rows, n_rows, nth_tensor, on_device
from tui_lab.core.doctor.program.calls import Call, Targets, output_of, possible_calls, usual_targets
from tui_lab.core.doctor.program.ids_place import IdsPlace, find_ids
from tui_lab.core.doctor.program.layout import Layout, find_layout
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import PROBE_ROWS, Forward, LossFunction
from tui_lab.core.doctor.program.token_views import token_view
from tui_lab.core.doctor.program.tokens import PAIRS, TokenView, is_pair_of_ids, logits_in, loss_in


@dataclass(frozen=True)
class Form:
    """How a program calls its model. All functions take batches with rows along the first axis.

    forward: (model, batch) → what the model returns; flat logits get their shape.
    targets: batch → what a loss compares the output with, in the user's own layout; None: unknown.
    inner_loss: (model, batch) → the loss that the model computes itself, or None.
    user_logits: (logits [B, T, V], or without tokens the output, batch) → the output as the user's loss expects it.
    tokens: None if the model does not map ids [B, T] to logits [B, T, V].
    layout: how the user's batches are turned; None: they are not.
    fixed_shape: whether the model accepts only whole batches.
    description: the form as text, for the report.
    error: what the model raised in every way that was tried.
    """

    forward: Forward
    targets: Targets | None = None
    inner_loss: LossFunction | None = None
    user_logits: Callable[[Any, Batch], Any] = lambda output, batch: logits_in(output)
    tokens: TokenView | None = None
    layout: Layout | None = None
    fixed_shape: bool = False
    description: str = ""
    error: Exception | None = None


def recognize(model: nn.Module, batch: Batch, *, forward: Forward | None = None, has_loss: bool = False) -> Form:
    """Return the form of a program. The model runs several times in evaluation mode, without gradients.

    forward: the user's own call of the model. has_loss: whether the user computes the loss from the model's output.
    """
    if forward:
        calls = [Call("your forward", forward, usual_targets(batch))]
    else:
        calls = list(possible_calls(model, batch, has_loss))
    batch = on_device(batch, next((p.device for p in model.parameters()), torch.device("cpu")))
    few = first_rows(batch, PROBE_ROWS)
    trials = [_Trial(model, calls, few)]
    if not trials[0].fits and n_rows(batch) > PROBE_ROWS:
        trials.append(_Trial(model, calls, batch))
    trial = next((t for t in trials if t.fits), None) or next((t for t in trials if t.call), None)
    if trial is None or trial.call is None:
        pairs = PAIRS if is_pair_of_ids(batch) else None
        first = calls[0]
        return Form(first.run, first.targets, tokens=pairs, description=first.description, error=trials[0].error)
    return _form(model, trial.call, batch, trial.batch, trial.output)


class _Trial:
    """Calls the model on a batch in every way until one fits the targets.

    call, output: those of the first way that fits, or else that does not raise. error: what the first way raised.
    """

    def __init__(self, model: nn.Module, calls: list[Call], batch: Batch) -> None:
        self.batch = batch
        self.call: Call | None = None
        self.output: Any = None
        self.fits = False
        self.error: Exception | None = None
        for call in calls:
            try:
                output = output_of(model, call.run, batch)
                logits = logits_in(output)
                y = call.targets(batch) if call.targets else None
            except Exception as error:  # The next way may be the right one.
                self.error = self.error or error
                continue
            self.fits = loss_in(output) is not None or (isinstance(y, Tensor) and _fits(logits, y))
            if self.fits or self.call is None:
                self.call = call
                self.output = output
            if self.fits:
                break


def _fits(output: Tensor, y: Tensor) -> bool:
    """Return whether a loss can compare the two: classes in the last or second axis, or values of the same shape."""
    if y.is_floating_point():
        return output.numel() == y.numel()
    classes = output.shape[-1] if output.dim() else 1
    return (
        output.shape[:-1] == y.shape
        or (output.dim() == y.dim() + 1 and output.shape[:1] + output.shape[2:] == y.shape)
        or (output.dim() == 2 and classes > 1 and output.shape[0] == y.numel())
    )


def _form(model: nn.Module, call: Call, batch: Batch, sample: Batch, output: Any) -> Form:
    """Return the form of a program whose call gave `output` for `sample`, some rows of `batch`."""
    logits = logits_in(output)
    ids = find_ids(model, call, sample, logits)
    layout = find_layout(model, call, batch, sample, logits, ids)
    if layout is not None:
        batch = layout.turned(batch)
    tokens = token_view(model, call, batch, ids, layout)
    if tokens is not None and tokens is not PAIRS:
        tokens = replace(tokens, logits=_logits(layout, ids))
    forward = _forward(call, layout, ids)
    return Form(
        forward=forward,
        targets=_restoring(call.targets, layout),
        inner_loss=_inner_loss(call, layout) if loss_in(output) is not None else None,
        user_logits=_user_logits(layout, ids),
        tokens=tokens or (PAIRS if is_pair_of_ids(batch) else None),
        layout=layout,
        fixed_shape=not _accepts_few_rows(model, forward, batch),
        description=_description(call, batch, tokens, layout),
    )


def _forward(call: Call, layout: Layout | None, ids: IdsPlace | None) -> Forward:
    """Return a function that calls the model on turned batches, and gives flat logits their shape [B, T, V]."""
    if layout is None and not (ids and ids.flat):
        return call.run
    time_first = layout is not None and layout.time_first

    def forward(model: nn.Module, batch: Batch) -> Any:
        output = call.run(model, layout.restored(batch) if layout else batch)
        if ids is None or not ids.flat:
            return output
        logits = logits_in(output)
        rows = nth_tensor(batch, ids.number).shape[0]
        return logits.view(-1, rows, logits.shape[-1]) if time_first else logits.view(rows, -1, logits.shape[-1])

    return forward


def _logits(layout: Layout | None, ids: IdsPlace | None) -> Callable[[Any], Tensor]:
    """Return a function from the output to logits [B, T, V]."""
    if ids is None or layout is None or not layout.time_first:
        return logits_in
    return lambda output: logits_in(output).transpose(0, 1)


def _user_logits(layout: Layout | None, ids: IdsPlace | None) -> Callable[[Any, Batch], Any]:
    """Return a function from the output to logits as the user's own code has them."""
    in_user_layout = _logits(layout, ids)  # Exchanging the two axes again restores them.

    def user_logits(output: Any, batch: Batch) -> Any:
        logits = in_user_layout(output)
        return logits.reshape(-1, logits.shape[-1]) if ids is not None and ids.flat else logits

    return user_logits


def _inner_loss(call: Call, layout: Layout | None) -> LossFunction:
    def loss(model: nn.Module, batch: Batch) -> Tensor:
        value = loss_in(call.run(model, layout.restored(batch) if layout else batch))
        if value is None:
            raise ValueError("the model did not return its loss")
        return value.reshape(())

    return loss


def _restoring(targets: Targets | None, layout: Layout | None) -> Targets | None:
    if targets is None or layout is None:
        return targets
    return lambda batch: targets(layout.restored(batch))


def _accepts_few_rows(model: nn.Module, forward: Forward, batch: Batch) -> bool:
    rows = min(PROBE_ROWS, n_rows(batch))
    try:
        output_of(model, forward, first_rows(batch, rows))
    except Exception:
        return False
    return True


def assumed_loss(output: Any, y: Any) -> tuple[str, Callable[[Tensor, Tensor], Tensor]] | None:
    """Return the usual loss of targets without token positions, with its name; None if there is none."""
    logits = logits_in(output)
    if not isinstance(y, Tensor) or not _fits(logits, y):
        return None
    if y.is_floating_point():
        return "mean squared error", lambda output, y: F.mse_loss(output.view_as(y), y)
    if y.dtype is torch.bool:
        return None
    if logits.dim() == y.dim() + 1 and logits.shape[:1] + logits.shape[2:] == y.shape:
        return "cross-entropy", F.cross_entropy
    return "cross-entropy", lambda output, y: F.cross_entropy(output.flatten(0, -2), y.flatten())


def _description(call: Call, batch: Batch, tokens: TokenView | None, layout: Layout | None) -> str:
    shapes = ", ".join(str(list(tensor.shape)) for tensor in list(tensors_of(batch))[:6])
    kind = "ids to logits [B, T, V]" if tokens else "a model without token positions"
    turned = ", rows along the second axis" if layout is not None and layout.time_first else ""
    return f"{call.description}: {kind}; a batch holds {shapes}{turned}"
