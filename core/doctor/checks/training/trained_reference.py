"""Does the training change the reference model that its loss compares the model with?

Cost: one forward and backward pass of each model.
"""

from collections.abc import Collection, Iterator
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.loss_calls import calls_of_loss, reading_of
from tui_lab.core.doctor.measures.loss_forms import Reading
from tui_lab.core.doctor.program.modules_beside import is_copy
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import logits_in
from tui_lab.core.watch.model.model_search import parameters_of

MAX_ERROR = 0.02
"""Relative difference of the two models' weights of targets: 0 in exact arithmetic, 0.005 in bfloat16."""


def check(target: Target) -> Iterator[Finding]:
    target.require_optimizers()
    held = {id(p) for p in parameters_of(target.optimizers) if p.requires_grad}
    counts = {module: sum(id(p) in held for p in module.parameters()) for module in target.model.children()}
    trained = [module for module, n in counts.items() if n]
    pairs = [pair for pair in permutations(trained, 2) if _is_reference(*pair)]
    if not pairs:
        raise NotApplicable("no second model of the same kind is trained")
    readings = _readings(target, {module for pair in pairs for module in pair})
    for model, reference in pairs:
        if _are_opposite_calls(readings[model], readings[reference]):
            yield _finding(target, model, reference, counts[reference])
            return
    if not all(readings.values()):
        raise NotJudged("it is not known which targets each of the models is trained on")


def _is_reference(model: nn.Module, other: nn.Module) -> bool:
    """Return whether `other` may be meant to stay as it is: in evaluation mode, or a copy of the model."""
    if type(model) is not type(other) or _shapes(model) != _shapes(other):
        return False
    return _is_evaluated(model, other) or (model.training == other.training and is_copy(model, other))


def _is_evaluated(model: nn.Module, other: nn.Module) -> bool:
    return model.training and not other.training


def _shapes(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in module.named_parameters()]


def _readings(target: Target, modules: Collection[nn.Module]) -> dict[nn.Module, list[Reading]]:
    """Return for each module what the loss of a batch does to the logits of its calls, in their order.

    Empty for a module if the loss does not show the targets of each of its calls.
    """
    measured = calls_of_loss(target, target.batch(0), modules)
    logits = [(call.module, _logits(call.output)) for call in measured.calls]
    leaves = [tensor for _, tensor in logits if tensor is not None]
    gradients = iter(torch.autograd.grad(measured.loss, leaves, allow_unused=True) if leaves else ())
    readings: dict[nn.Module, list[Reading | None]] = {module: [] for module in modules}
    for module, tensor in logits:
        if tensor is None or (gradient := next(gradients)) is None:
            readings[module].append(None)
        else:
            readings[module].append(reading_of(tensor, gradient))
    return {
        module: [reading for reading in each if reading is not None] if all(each) else []
        for module, each in readings.items()
    }


def _logits(output: Any) -> Tensor | None:
    """Return the logits of an output, if the loss may depend on them."""
    try:
        logits = logits_in(output)
    except ValueError:
        return None
    return logits if logits.requires_grad and logits.dim() in (2, 3) else None


def _are_opposite_calls(first: list[Reading], second: list[Reading]) -> bool:
    """Return whether two models are called equally often, and the loss does the opposite to them in each call."""
    return bool(first) and len(first) == len(second) and all(map(_are_opposite, first, second))


def _are_opposite(first: Reading, second: Reading) -> bool:
    """Return whether the loss lowers under one model what it raises under the other: it depends on their ratio."""
    if first.counted.shape != second.counted.shape or not torch.equal(first.counted, second.counted):
        return False
    if not torch.equal(first.targets[first.counted], second.targets[first.counted]):
        return False
    total = _signed_weights(first) + _signed_weights(second)
    return float(total.norm()) <= MAX_ERROR * float(first.weights.norm())


def _signed_weights(reading: Reading) -> Tensor:
    return -reading.weights if reading.ascent else reading.weights


def _finding(target: Target, model: nn.Module, reference: nn.Module, n: int) -> Finding:
    kind = type(reference).__name__
    is_evaluated = _is_evaluated(model, reference)
    return Finding(
        code="trained_reference",
        kind="finding" if is_evaluated else "hint",
        title="The reference model is trained, too: the optimizer holds its weights.",
        evidence=f"each target that the loss makes more likely under one {kind}, it makes less likely by the same "
        f"amount under a second {kind}, "
        + ("which is in evaluation mode" if is_evaluated else "which has the same initial weights")
        + f"; the optimizer holds {n} tensors of the second",
        why="The loss falls when the reference gets worse, so the model learns less from it, and nothing keeps it near "
        "to where it began.",
        fix="Call the reference under torch.no_grad(), set reference.requires_grad_(False), and give the optimizer the "
        "parameters of the trained model only.",
        location=target.loop.created_at,
    )
