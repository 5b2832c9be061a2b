"""The calls of modules that a loss is computed from, and what each of them trains."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.measures.loss_forms import Reading, read
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import at
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.script.token_form import TokenForm, token_form

TOLERANCE = 1e-4
"""Of the largest logit, that rounding changes at most: of float32 in another order of sums, 1e-6."""


@dataclass(frozen=True)
class Call:
    """One call of a module, with what it returned."""

    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


@dataclass(frozen=True)
class LossCalls:
    """The loss of a batch, in evaluation mode, and the calls that were made for it, in their order."""

    loss: Tensor
    calls: list[Call] = field(default_factory=list)


@dataclass(frozen=True)
class TrainedCall:
    """A call of a model over tokens. form: where its ids x [B, T] and logits are. reading: what the loss does to it."""

    call: Call
    form: TokenForm
    x: Tensor
    reading: Reading

    @property
    def sees_only_earlier(self) -> bool:
        """Whether another last id leaves the logits of all earlier positions as they are."""
        changed = self.x.clone()
        changed[:, -1] = self.x[:, 0]
        arguments = self.form.with_ids((self.call.args, self.call.kwargs), changed)
        is_training = self.call.module.training
        self.call.module.eval()
        try:
            with torch.no_grad():
                output = self.call.module(*arguments[0], **arguments[1])
        finally:
            self.call.module.train(is_training)
        before, after = (at(self.form.shown(each, self.x), self.form.logits) for each in (self.call.output, output))
        difference = (before - after)[:, :-1].abs()
        return not torch.equal(changed, self.x) and bool(difference.max() <= TOLERANCE * before.abs().max())


def calls_of_loss(target: Target, batch: Batch, modules: Collection[nn.Module]) -> LossCalls:
    """Compute the loss of a batch; return it with the calls of these modules. Raises NotJudged as `Target.loss`."""
    calls: list[Call] = []

    def called(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls.append(Call(module, args, kwargs, output))

    handles = [module.register_forward_hook(called, with_kwargs=True) for module in modules]
    try:
        with target.evaluating(), torch.enable_grad():
            return LossCalls(target.loss(batch), calls)
    finally:
        for handle in handles:
            handle.remove()


def trained_calls(target: Target, batch: Batch) -> Iterator[TrainedCall]:
    """Yield the calls of models over tokens whose targets the gradient of the loss shows."""
    is_list = type(target.model) is nn.ModuleList
    measured = calls_of_loss(target, batch, list(target.model.children()) if is_list else [target.model])
    forms = [(call, token_form(call.module, (call.args, call.kwargs), call.output, None)) for call in measured.calls]
    known = [(call, form) for call, form in forms if form is not None]
    logits = [at(call.output, form.logits) for call, form in known]
    leaves = [tensor for tensor in logits if tensor.requires_grad]
    gradients = iter(torch.autograd.grad(measured.loss, leaves, allow_unused=True) if leaves else ())
    for (call, form), values in zip(known, logits, strict=True):
        gradient = next(gradients) if values.requires_grad else None
        x = form.ids((call.args, call.kwargs)).long()
        if gradient is not None and (reading := reading_of(values, gradient, x.shape)) is not None:
            yield TrainedCall(call, form, x, reading)


def reading_of(logits: Tensor, gradient: Tensor, shape: torch.Size | None = None) -> Reading | None:
    """Return what a gradient does to the targets of logits [B, T, V] or [B·T, V]; None if it is of another loss.

    shape: [B, T] of the ids; None: rows do not matter.
    """
    if not bool(gradient.any()) or not bool(torch.isfinite(gradient).all()):
        return None
    rows = logits.shape[:-1] if shape is None else shape
    rows = rows if len(rows) == 2 else torch.Size([1, *rows])
    reading = read(logits.reshape(*rows, -1), gradient.reshape(*rows, -1))
    return reading if reading.form in ("cross_entropy", "signed_cross_entropy") else None
