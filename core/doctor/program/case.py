"""A training setup from user code, described for the doctor: a model, its batches, and what else is known."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.program.batch import Batch, first_rows, n_rows, on_device
from tui_lab.core.doctor.program.calls import output_of
from tui_lab.core.doctor.program.forms import Form, assumed_loss, recognize
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.doctor.program.target import (
    PROBE_ROWS,
    LossFunction,
    Target,
    Update,
    mean_cross_entropy,
    required,
    targets_of,
)
from tui_lab.core.doctor.program.target_rules import next_token
from tui_lab.core.doctor.program.unchanged import unchanged_model
from tui_lab.core.doctor.runner import examine as examine_target
from tui_lab.core.user_code.import_file import described
from tui_lab.core.watch.unchanged_rng import unchanged_rng
from tui_lab.util.errors import ConfigError

MAX_BATCHES = 64
"""Batches taken from an iterable, which may be endless."""
MIN_VALIDATION_TOKENS = 32
"""Shorter rows repeat by chance."""
DEFAULT_IGNORED = -100
MODEL_NAMES = ("model", "net", "network", "module")
"""Names of a loss's first parameter that stand for the model, not for its output."""

BatchFunction = Callable[[int], Batch]


@dataclass(frozen=True)
class Case:
    """What the doctor needs to know about a training setup; only `model` and `batches` are required.

    model: any torch.nn.Module.
    batches: one batch, an iterable of batches such as a DataLoader, or a function step → batch. A batch is whatever
        the training uses: (x, y), ((source, target), y), a dict, a tensor.
    loss: (model, batch) → the loss that is trained on, or (logits, y) → the loss; None: the model's own loss if it
        returns one, else the usual one: cross-entropy, or mean squared error for float targets.
    optimizer: one torch.optim.Optimizer or several; None: checks that need one are not judged.
    update: (model, optimizers, batch) or (model, optimizers, x, y) makes one update of the model that it is given, as
        your loop does; None: the usual five lines. What it keeps in variables of its own is shared by all trials.
    n_vocab: the tokenizer's vocabulary size.
    ignored: the target that the loss skips; the only negative one in the batches need not be named.
    rule: "next_token", or a function x → y that the task defines.
    pinned: how many examples are meant to be repeated.
    tied: whether the head may share the embedding's weights.
    trained: whether the model is no longer at its initial weights.
    dropout: the dropout rate that is meant to act; None: the largest rate of the model's dropout modules.
    validation: validation rows x [N, T], to look for leaks.
    causal: whether a position may see only itself and earlier ones.
    forward: (model, batch) → what the model returns; None: the usual ways to call a model are tried.
    evaluate: (model, batch) → anything: your evaluation step.
    generate: (model, ids [1, T], n) → ids [1, T + n]: your generation.
    """

    model: nn.Module
    batches: Any
    loss: Callable[..., Tensor] | None = None
    optimizer: Optimizer | Sequence[Optimizer] | None = None
    update: Callable[..., object] | None = None
    n_vocab: int | None = None
    ignored: int = DEFAULT_IGNORED
    rule: str | Callable[[Tensor], Tensor] | None = None
    pinned: int | None = None
    tied: bool = True
    trained: bool = False
    dropout: float | None = None
    validation: Tensor | None = None
    causal: bool = True
    forward: Callable[[nn.Module, Any], Any] | None = None
    evaluate: Callable[[nn.Module, Any], object] | None = None
    generate: Callable[..., Tensor] | None = None


def examine(case: Case, *, on_check: Callable[[str], None] = lambda name: None) -> Report:
    """Diagnose a training setup; model and optimizers are left unchanged.

    `on_check` receives the name of each check before it runs. Raises ConfigError for a case with wrong fields, and if
    its batches cannot be drawn.
    """
    return examine_target(target_from_case(case), on_check=on_check)


def target_from_case(case: Case) -> Target:
    """Return the target that `case` describes. Raises ConfigError for wrong fields, with the field as its key."""
    _check_fields(case)
    model: nn.Module = getattr(case.model, "_orig_mod", case.model)  # What torch.compile wraps.
    drawn, varies = batches_of(case.batches)
    first = drawn(0)
    with unchanged_rng(), unchanged_model(model):
        form = recognize(model, first, forward=case.forward, has_loss=case.loss is not None)
        batch = _turned(drawn, form)
        loss = _loss(case, form, model, batch(0))
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


@dataclass(frozen=True)
class Loss:
    """function: (model, batch) → the loss. of_output: (output, batch) → the loss. description: where it comes from.

    fixed_shape: whether it accepts only whole batches.
    """

    function: LossFunction | None
    of_output: Callable[[Any, Batch], Tensor] | None
    description: str
    fixed_shape: bool = False


def _loss(case: Case, form: Form, model: nn.Module, batch: Batch) -> Loss:
    """Return the loss of the case, the model's own, or a usual one. Raises ConfigError if the case's always raises."""
    if case.loss is not None:
        return _own_loss(case.loss, form, model, batch)
    if form.inner_loss is not None:
        return Loss(form.inner_loss, None, "its loss is the one that the model returns")
    if form.tokens is not None:
        return Loss(None, None, "no loss was given, so its loss is taken to be the cross-entropy")
    return _usual_loss(form, model, batch)


def _usual_loss(form: Form, model: nn.Module, batch: Batch) -> Loss:
    targets = form.targets
    few = on_device(first_rows(batch, PROBE_ROWS) if not form.fixed_shape else batch, _device(model))
    if targets is None or form.error is not None:
        return Loss(None, None, "no loss was given")
    usual = assumed_loss(output_of(model, form.forward, few), targets(few))
    if usual is None:
        return Loss(None, None, "no loss was given")
    name, function = usual

    def of_output(output: Any, batch: Batch) -> Tensor:
        return function(form.user_logits(output, batch), targets(batch))

    return Loss(_applied(form, of_output), of_output, f"no loss was given, so its loss is taken to be the {name}")


def _applied(form: Form, of_output: Callable[[Any, Batch], Tensor]) -> LossFunction:
    tokens = form.tokens

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        output = form.forward(model, batch)
        return of_output(tokens.logits(output) if tokens else output, batch)

    return loss


def _own_loss(loss: Callable[..., Tensor], form: Form, model: nn.Module, batch: Batch) -> Loss:
    """Find out by a trial whether the loss takes (logits, y) or (model, batch)."""
    targets, layout = form.targets, form.layout

    def of_output(output: Any, batch: Batch) -> Tensor:
        assert targets is not None
        return loss(form.user_logits(output, batch), targets(batch))

    def of_model(model: nn.Module, batch: Batch) -> Tensor:
        return loss(model, layout.restored(batch) if layout else batch)

    from_output = Loss(_applied(form, of_output), of_output, "its loss is yours of the logits and targets")
    from_model = Loss(of_model, None, "its loss is yours of the model and the batch")
    if targets is None:
        kinds = [from_model]
    elif next(iter(_positional(loss)), "") in MODEL_NAMES:
        kinds = [from_model, from_output]
    else:
        kinds = [from_output, from_model]
    if form.error is not None:  # The model fails on its batches, so no loss can be tried.
        return kinds[0]
    return _first_working(kinds, model, batch, whole=form.fixed_shape)


def _first_working(kinds: list[Loss], model: nn.Module, batch: Batch, *, whole: bool) -> Loss:
    errors: list[Exception] = []
    sizes = [n_rows(batch)] if whole else sorted({min(PROBE_ROWS, n_rows(batch)), n_rows(batch)})
    for rows in sizes:
        few = on_device(first_rows(batch, rows), _device(model))
        for kind in kinds:
            assert kind.function is not None
            try:
                value = output_of(model, kind.function, few)
            except Exception as error:
                errors.append(error)
                continue
            if isinstance(value, Tensor) and value.numel() == 1:
                return Loss(kind.function, kind.of_output, kind.description, fixed_shape=rows != sizes[0])
            what = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConfigError.of("user_code", f"it returns {what}", key="Case.loss", allowed="a tensor with one number")
    raise ConfigError.of(
        "user_code",
        "; ".join(dict.fromkeys(described(error) for error in errors[: len(kinds)])),
        key="Case.loss",
        allowed="a function (model, batch) → the loss, or (logits, y) → the loss",
    ) from errors[0]


def _positional(function: Callable[..., object]) -> list[str]:
    """Return the names of the positional parameters; "*args" for any number of them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    return names + ["*args" for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]


def _update(case: Case, form: Form, loss: LossFunction | None, ignored: int) -> Update:
    """Return the case's update, or that of torch's tutorials: clear gradients, forward, backward, step."""
    own, layout = case.update, form.layout
    if own is not None:
        takes_batch = len(_positional(own)) == 3 and "*args" not in _positional(own)

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


def batches_of(batches: Any) -> tuple[BatchFunction, bool]:
    """Return a function step → batch, and whether it can return different batches. Raises ConfigError.

    The function raises ConfigError with the user's line if the batches cannot be drawn.
    """
    if callable(batches) and not isinstance(batches, Tensor | Mapping):
        return partial(_drawn, batches), True
    if _is_batch(batches):
        batch = _checked(batches, 0)
        return (lambda step: batch), False
    if isinstance(batches, Iterable) and not isinstance(batches, str):
        drawn = list(_first_batches(batches))
        if not drawn:
            raise ConfigError.of("missing", "the iterable is empty", key="Case.batches")
        return (lambda step: drawn[step % len(drawn)]), len(drawn) > 1
    raise ConfigError.of(
        "wrong_type",
        f"this is a {type(batches).__name__}",
        key="Case.batches",
        allowed="a batch such as (x, y), an iterable of batches such as a DataLoader, or a function step → batch",
    )


def _drawn(batches: BatchFunction, step: int) -> Batch:
    try:
        batch = batches(step)
    except ConfigError:
        raise
    except Exception as error:
        raise _batch_error(step, error) from error
    return _checked(batch, step)


def _first_batches(batches: Iterable[Any]) -> Iterator[Batch]:
    step = 0
    try:
        for batch in batches:
            yield _checked(batch, step)
            step += 1
            if step == MAX_BATCHES:
                return
    except ConfigError:
        raise
    except Exception as error:
        raise _batch_error(step, error) from error


def _batch_error(step: int, error: Exception) -> ConfigError:
    return ConfigError.of("user_code", f"the batch of step {step}: {described(error)}", key="Case.batches")


def _is_batch(value: Any) -> bool:
    """Return whether a value is one batch, not several: a tensor, a mapping, or a tuple that ends with a tensor."""
    if isinstance(value, Tensor | Mapping):
        return True
    if isinstance(value, tuple):
        return bool(value) and isinstance(value[-1], Tensor)
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, Tensor) for item in value)


def _checked(batch: Any, step: int) -> Batch:
    """Return the batch with contiguous tensors, so that a model or loss may call view(-1). Raises ConfigError.

    The ids of a pair (x, y) become int64.
    """
    key = "Case.batches"
    tensors = list(tensors_of(batch))
    if not tensors and (isinstance(batch, str | int | float) or batch is None or _is_empty(batch)):
        message = f"the batch of step {step} is a {type(batch).__name__} without tensors"
        raise ConfigError.of("wrong_type", message, key=key, allowed="tensors, or tuples, lists and dicts of them")
    if any(tensor.numel() == 0 for tensor in tensors[:1]):
        raise ConfigError.of(
            "invalid", f"the batch of step {step} is empty: its first tensor is {list(tensors[0].shape)}", key=key
        )
    ids = all(t.dim() == 2 and not t.is_floating_point() and t.dtype is not torch.bool for t in tensors)
    if isinstance(batch, list | tuple) and len(tensors) == len(batch) == 2 and ids:
        return tensors[0].long().contiguous(), tensors[1].long().contiguous()
    return mapped(batch, lambda tensor: tensor.contiguous())


def _is_empty(batch: Any) -> bool:
    return isinstance(batch, Mapping | list | tuple)


def _check_fields(case: Case) -> None:
    """Raise ConfigError for a field of the wrong type."""
    rule = case.rule
    if not isinstance(case.model, nn.Module):
        raise _wrong_type("model", case.model, "a torch.nn.Module (an object, not its class)")
    if rule is not None and not callable(rule) and rule != "next_token":
        raise ConfigError.of(
            "invalid", "unknown rule", key="Case.rule", value=rule, allowed="'next_token', a function x → y"
        )
    for name in ("loss", "update", "forward", "evaluate", "generate"):
        value = getattr(case, name)
        if value is not None and not callable(value):
            raise _wrong_type(name, value, "a function, or None")
    _check_optimizer(case.optimizer)
    if case.validation is not None and (not isinstance(case.validation, Tensor) or case.validation.dim() != 2):
        raise _wrong_type("validation", case.validation, "a tensor of ids [N, T]")


def _check_optimizer(optimizer: Any) -> None:
    several = optimizer if isinstance(optimizer, list | tuple) else [optimizer]
    for one in several:
        if one is None or isinstance(one, Optimizer):
            continue
        inner = [name for name, value in getattr(one, "__dict__", {}).items() if isinstance(value, Optimizer)]
        if inner and not isinstance(one, type):
            message = (
                f"this is a {type(one).__name__}, which wraps an optimizer: pass the one inside, optimizer.{inner[0]}, "
                "and make your step in update=, a function (model, optimizers, batch)"
            )
            raise ConfigError.of("wrong_type", message, key="Case.optimizer", allowed="a torch.optim.Optimizer")
        raise _wrong_type("optimizer", optimizer, "a torch.optim.Optimizer, or a list of them")


def _wrong_type(field: str, value: Any, allowed: str) -> ConfigError:
    what = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    return ConfigError.of("wrong_type", f"this is {what}", key=f"Case.{field}", allowed=allowed)


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _dropout(case: Case) -> float | None:
    if case.dropout is not None:
        return case.dropout
    rates = [m.p for m in case.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    return max(rates, default=None)


def _validation(case: Case, form: Form, batch: BatchFunction) -> Callable[[], tuple[int, int]] | None:
    """Compare whole rows, if they are long enough."""
    validation, tokens = case.validation, form.tokens
    if validation is None or tokens is None or validation.shape[1] < MIN_VALIDATION_TOKENS:
        return None

    def shared() -> tuple[int, int]:
        rows = {tuple(row) for step in range(MAX_BATCHES) for row in tokens.x(batch(step)).tolist()}
        return sum(tuple(row) in rows for row in validation.tolist()), len(validation)

    return shared
