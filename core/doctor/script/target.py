"""A target for the doctor's checks from what was captured of a script."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.loop.loss_course import are_shares, constant_loss, course_text, loss_courses
from tui_lab.core.doctor.loop.reading import named_at, why_not_repeatable
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.script.capture import Capture, CapturedStep
from tui_lab.core.doctor.script.evaluation_forms import with_modes
from tui_lab.core.doctor.script.initial_optimizers import for_trials, reset_optimizers
from tui_lab.core.doctor.script.parts import ScriptParts, parts_of, replayable
from tui_lab.core.watch.model.model_search import parameters_of

MAX_COURSES = 3
"""Lines of backward() whose losses are shown."""
NEAR_CONSTANT = 0.9
"""Of the loss of a constant prediction, above which that is shown, too."""
CLEARLY_TRAINED = 0.85
"""Of ln V: an untrained model has a first loss of about ln V; one below this has learned something."""


def target_from_script(
    capture: Capture, record: LoopRecord, model: nn.Module, optimizers: Sequence[Optimizer], *, trained: bool
) -> Target:
    """Return the target; the model gets its initial weights back, and the optimizers lose their state.

    Nothing of the script runs afterwards, so that its own model and optimizers are used. trained: whether the script
    loaded weights.
    """
    if not capture.steps:
        return _recorded_only(record, model, optimizers)
    steps = _of_one_form(capture.steps)
    if steps[0].call is None:  # What was measured is the output of one of several calls.
        record = replace(record, measurements=())
    parts = with_modes(parts_of(capture, replayable(steps, capture.modules), record, model), model)
    missing = _reset(capture, record, model, optimizers)
    without = why_not_repeatable(record)
    return Target(
        model=model,
        optimizers=[] if without else for_trials(optimizers, model, record),
        no_optimizer=without,
        batch=parts.batch,
        forward=parts.forward,
        loss_function=parts.loss,
        output_loss=_output_loss(parts, model),
        update=parts.update(_clip(record)),
        ignored=parts.plain.ignored if parts.plain is not None else _ignored(steps),
        tokens=parts.tokens(),
        record=record,
        fixed_shape=parts.plain is None and not parts.inside and not parts.splits,
        keeps_training_flag=parts.follows_flag,
        varies=_varies(steps),
        vocabularies=frozenset(vocabulary.n_vocab for vocabulary in capture.vocabularies),
        paddings=frozenset(v.padding for v in capture.vocabularies if v.padding is not None),
        answer_openings=frozenset(v.opening for v in capture.vocabularies if v.opening),
        dropout=max((m.p for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)), default=None),
        untrained=not trained and not missing and not _looks_trained(steps, parts),
        causal=_is_causal(steps, parts),
        recognized=tuple(_recognized(parts, record, model)),
        unseen=(*record.notes, *_unseen(parts, missing)),
    )


def _reset(capture: Capture, record: LoopRecord, model: nn.Module, optimizers: Sequence[Optimizer]) -> list[str]:
    """Go back to the start of the training; return the names of the models whose initial weights were not kept."""
    missing = capture.initial.restore()
    _forget_graphs(model)
    reset_optimizers(optimizers, capture, record)
    return missing


def _recognized(parts: ScriptParts, record: LoopRecord, model: nn.Module) -> Iterator[str]:
    yield from _recorded(record, parts.factor)
    if type(model) is nn.ModuleList:
        sizes = [f"{type(each).__name__} ({sum(p.numel() for p in each.parameters()):,} weights)" for each in model]
        yield f"{len(sizes)} models: {', '.join(sizes)}"
    if parts.plain is not None:
        yield "the loss: cross-entropy" + (" inside the model" if parts.inside else "")


def _recorded(record: LoopRecord, factor: float = 1.0) -> tuple[str, ...]:
    """Return how many updates were recorded, and how their losses changed.

    factor: what undoes the division of each loss by the number of micro-batches.
    """
    courses = loss_courses(record)
    factor = 1.0 if are_shares(record) else factor
    named = [
        f"loss{named_at(course.line) if len(courses) > 1 else ''} {course_text(course.times(factor))}"
        for course in courses[:MAX_COURSES]
    ]
    constant = constant_loss(record)
    if len(courses) == 1 and constant and courses[0].last > NEAR_CONSTANT * constant:
        named = [f"{named[0]}, where a constant prediction has {constant * factor:.4g}"]
    n = len(record.updates)
    skipped = f"{len(record.skipped)} steps skipped by GradScaler"
    counted = f"{n} updates of the script{_by_hand(record)}" if n else "no update of the script"
    return (counted, *([skipped] if record.skipped else []), *named)


def _by_hand(record: LoopRecord) -> str:
    """Return how the updates are made, if the script makes them without an optimizer."""
    if not record.moves_by_hand:
        return ""
    if not record.is_plain_by_hand:
        return ", made by hand"
    rates = [rate for update in record.updates for rate in update.lrs]
    shown = f"{min(rates):g}" + (f" to {max(rates):g}" if max(rates) > min(rates) else "")
    return f", made by hand: gradient descent at a rate of {shown}"


def _unseen(parts: ScriptParts, missing: Sequence[str]) -> Iterator[str]:
    """Yield what is not known. missing: the models whose initial weights were not kept."""
    if parts.plain is None and any(step.tape is None for step in parts.steps):
        yield f"the loss ({parts.problem})"
    if missing:
        yield f"the initial weights of {', '.join(missing)} (too large to keep)"


class _Parameters(nn.Module):
    """Holds the tensors that a script trains without a module."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        for number, parameter in enumerate(parameters):
            # register_parameter accepts no plain tensors.
            self._parameters[f"tensor_{number}"] = parameter  # type: ignore[assignment]


def _recorded_only(record: LoopRecord, model: nn.Module, optimizers: Sequence[Optimizer]) -> Target:
    """Return a target of which only the loop can be judged."""
    reason = "the script computes its loss without calling a module that has parameters; only its loop is examined"

    def unknown(*arguments: Any) -> Any:
        raise NotJudged(reason)

    return Target(
        model=model,
        optimizers=list(optimizers),
        no_optimizer=reason,
        batch=unknown,
        forward=unknown,
        loss_function=unknown,
        update=unknown,
        ignored=-100,
        tokens=None,
        record=record,
        recognized=_recorded(record),
    )


def _of_one_form(steps: Sequence[CapturedStep]) -> Sequence[CapturedStep]:
    """Return the steps whose calls have the form of the first that is complete."""
    first = next((step for step in steps if step.tape is not None), steps[0])
    return [step for step in steps if _form(step) == _form(first)]


def _form(step: CapturedStep) -> Any:
    targets = None if step.targets is None else step.targets.form
    return (step.call is None, step.tape is None, step.form, targets, step.criterion, len(step.inputs))


def whole_model(capture: Capture, model: nn.Module | None, optimizers: Sequence[Optimizer] = ()) -> nn.Module:
    """Return the module that contains all that the script calls: the model, or its parts in a ModuleList.

    For a script that calls no module, it holds the parameters of the optimizers.
    """
    called = capture.modules
    if not called:
        return _Parameters(parameters_of(optimizers))
    if model is not None:
        inside = {id(module) for module in model.modules()}
        if all(id(module) in inside for module in called):
            return model
    return called[0] if len(called) == 1 else nn.ModuleList(called)


def _forget_graphs(model: nn.Module) -> None:
    """Replace tensors that a forward left in attributes by plain ones: those of a graph cannot be copied."""
    for module in model.modules():
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor) and value.grad_fn is not None:
                setattr(module, name, value.detach())


def _output_loss(parts: ScriptParts, model: nn.Module) -> Callable[[Any, Batch], Tensor] | None:
    if parts.plain is not None:
        return parts.output_loss
    if parts.inside or any(step.tape is None or step.call is None for step in parts.steps):
        return None
    return lambda output, batch: parts.output_loss(output, batch, model)


def _ignored(steps: Sequence[CapturedStep]) -> int:
    return steps[0].targets.ignored if steps[0].targets is not None else -100


def _clip(record: LoopRecord) -> float | None:
    """Return the norm that the script clips its gradients to, None if it does not."""
    for update in record.updates:
        for event in update.events:
            if event.operation == "clip" and event.value is not None and math.isfinite(event.value) and event.norm:
                return event.value
    return None


def _varies(steps: Sequence[CapturedStep]) -> bool:
    """Return whether the captured batches differ."""
    first = [tensor for args, kwargs in steps[0].inputs.values() for tensor in tensors_of([args, kwargs])]
    for step in steps[1:]:
        others = [tensor for args, kwargs in step.inputs.values() for tensor in tensors_of([args, kwargs])]
        if len(first) != len(others) or any(not torch.equal(a, b) for a, b in zip(first, others, strict=True)):
            return True
    return False


def _looks_trained(steps: Sequence[CapturedStep], parts: ScriptParts) -> bool:
    """Return whether the first cross-entropy is clearly below that of a uniform guess."""
    targets = steps[0].targets
    if targets is None or targets.ratio is None or targets.n_classes < 2:
        return False
    return steps[0].loss / targets.ratio < CLEARLY_TRAINED * math.log(targets.n_classes)


def _is_causal(steps: Sequence[CapturedStep], parts: ScriptParts) -> bool:
    """Return whether targets are later ids of x, so that a position must not see them."""
    if parts.form is None or any(step.targets is None for step in steps):
        return False
    agreements = []
    for number in range(min(4, len(steps))):
        batch = parts.batch(number)
        x, y = parts.form.ids((batch["args"], batch["kwargs"])), batch["targets"]
        agreements.append(max(_agreement(x, y, k) for k in (1, 2, 0)))
    return min(agreements) > 0.9


def _agreement(x: Tensor, y: Tensor, k: int) -> float:
    """Return the fraction of the counted targets y[t] that are x[t + k]."""
    if x.shape != y.shape or x.shape[1] <= k:
        return 0.0
    later = x[:, k:]
    compared = y[:, : y.shape[1] - k]
    counted = compared >= 0
    return float((later == compared)[counted].float().mean()) if bool(counted.any()) else 0.0
