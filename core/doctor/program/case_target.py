"""What the doctor examines of a case, with what was not given filled in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.calls import positional_parameters
from tui_lab.core.doctor.program.case import DEFAULT_IGNORED, Case, check_fields
from tui_lab.core.doctor.program.case_batches import MAX_BATCHES, BatchFunction, batches_of
from tui_lab.core.doctor.program.case_loss import case_loss
from tui_lab.core.doctor.program.forms import Form, recognize
from tui_lab.core.doctor.program.target import LossFunction, Target, Update, mean_cross_entropy, required, targets_of
from tui_lab.core.doctor.program.target_rules import next_token
from tui_lab.core.doctor.program.unchanged import unchanged_model
from tui_lab.core.doctor.runner import examine as examine_target
from tui_lab.core.watch.model.model_calls import uncompiled
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng

MIN_VALIDATION_TOKENS = 32
"""Shorter rows repeat by chance."""


def examine(case: Case, *, on_check: Callable[[str], None] = lambda name: None) -> Report:
    """Diagnose a training setup; model and optimizers are left unchanged.

    `on_check` receives the name of each check before it runs. Raises ConfigError for a case with wrong fields, and if
    its batches cannot be drawn.
    """
    return examine_target(target_from_case(case), on_check=on_check)


def target_from_case(case: Case) -> Target:
    """Return the target that `case` describes. Raises ConfigError for wrong fields, with the field as its key."""
    check_fields(case)
    model = uncompiled(case.model)
    drawn, varies = batches_of(case.batches)
    first = drawn(0)
    with unchanged_rng(), unchanged_model(model):
        form = recognize(model, first, forward=case.forward, has_loss=case.loss is not None)
        batch = _turned(drawn, form)
        loss = case_loss(case.loss, form, model, batch(0))
    ignored = _ignored(case, form, batch(0))
    optimizers: list[Optimizer] = []
    if case.optimizer is not None:
        optimizers = [case.optimizer] if isinstance(case.optimizer, Optimizer) else list(case.optimizer)
    return Target(
        model=model,
        optimizers=optimizers,
        batch=batch,
        forward=form.forward,
        loss_function=loss.function,
        output_loss=loss.of_output,
        update=_update(case, form, loss.function, ignored),
        tokens=form.tokens,
        targets=form.targets,
        fixed_shape=form.fixed_shape or loss.fixed_shape,
        ignored=ignored,
        varies=varies,
        n_vocab=case.n_vocab,
        rule=next_token if case.rule == "next_token" else case.rule if callable(case.rule) else None,
        pinned=case.pinned,
        validation=_validation(case, form, batch),
        untied=None if case.tied else True,
        dropout=_dropout(case),
        untrained=not case.trained,
        causal=case.causal,
        evaluate=case.evaluate,
        generate=case.generate,
        recognized=(form.description, loss.description),
    )


def _turned(drawn: BatchFunction, form: Form) -> BatchFunction:
    layout = form.layout
    return drawn if layout is None else lambda step: layout.turned(drawn(step))


def _update(case: Case, form: Form, loss: LossFunction | None, ignored: int) -> Update:
    """Return the case's update, or that of torch's tutorials: clear gradients, forward, backward, step."""
    own = case.update
    layout = form.layout
    if own is not None:
        takes_batch = len(positional_parameters(own)) == 3 and "*args" not in positional_parameters(own)

        def own_update(model: nn.Module, optimizers: Sequence[Optimizer], batch: Batch) -> object:
            batch = layout.restored(batch) if layout else batch
            return own(model, optimizers, batch) if takes_batch else own(model, optimizers, *_x_and_y(batch))

        return own_update

    def update(model: nn.Module, optimizers: Sequence[Optimizer], batch: Batch) -> float:
        model.train()
        for optimizer in optimizers:
            optimizer.zero_grad()
        value = loss(model, batch) if loss else _cross_entropy(form, model, batch, ignored)
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:
            optimizer.step()
        return float(value.detach())

    return update


def _ignored(case: Case, form: Form, batch: Batch) -> int:
    """Return the target that the loss skips: the case's, or the only negative one that the batch has."""
    y = form.tokens.y(batch) if form.tokens and form.tokens.y else None
    if case.ignored != DEFAULT_IGNORED or y is None:
        return case.ignored
    negative = torch.unique(y[y < 0])
    return int(negative[0]) if len(negative) == 1 else case.ignored


def _x_and_y(batch: Batch) -> Sequence[Any]:
    if isinstance(batch, Mapping) and {"input_ids", "labels"} <= set(batch):
        return batch["input_ids"], batch["labels"]
    return batch if isinstance(batch, list | tuple) else (batch,)


def _cross_entropy(form: Form, model: nn.Module, batch: Batch, ignored: int) -> Tensor:
    tokens = required(form.tokens)
    return mean_cross_entropy(tokens.logits(form.forward(model, batch)), targets_of(tokens, batch), ignored)


def _dropout(case: Case) -> float | None:
    if case.dropout is not None:
        return case.dropout
    rates = [m.p for m in case.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    return max(rates, default=None)


def _validation(case: Case, form: Form, batch: BatchFunction) -> Callable[[], tuple[int, int]] | None:
    """Compare whole rows, if they are long enough."""
    validation = case.validation
    tokens = form.tokens
    if validation is None or tokens is None or validation.shape[1] < MIN_VALIDATION_TOKENS:
        return None

    def shared() -> tuple[int, int]:
        rows = {tuple(row) for step in range(MAX_BATCHES) for row in tokens.x(batch(step)).tolist()}
        return sum(tuple(row) in rows for row in validation.tolist()), len(validation)

    return shared
