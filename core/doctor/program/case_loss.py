"""The loss of a case: the user's, the one that the model returns, or a usual one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import Batch, first_rows, n_rows, on_device
from tui_lab.core.doctor.program.calls import output_of, positional_parameters
from tui_lab.core.doctor.program.forms import Form, assumed_loss
from tui_lab.core.doctor.program.target import PROBE_ROWS, LossFunction
from tui_lab.core.user_code.import_file import described
from tui_lab.util.errors import ConfigError

MODEL_NAMES = ("model", "net", "network", "module")
"""Names of a loss's first parameter that stand for the model, not for its output."""


@dataclass(frozen=True)
class Loss:
    """function: (model, batch) → the loss. of_output: (output, batch) → the loss. description: where it comes from.

    fixed_shape: whether it accepts only whole batches.
    """

    function: LossFunction | None
    of_output: Callable[[Any, Batch], Tensor] | None
    description: str
    fixed_shape: bool = False


def case_loss(own: Callable[..., Tensor] | None, form: Form, model: nn.Module, batch: Batch) -> Loss:
    """Return the user's `own` loss, the one that the model returns, or a usual one.

    Raises ConfigError if the user's loss always raises.
    """
    if own is not None:
        return _own_loss(own, form, model, batch)
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
    targets = form.targets
    layout = form.layout

    def of_output(output: Any, batch: Batch) -> Tensor:
        assert targets is not None
        return loss(form.user_logits(output, batch), targets(batch))

    def of_model(model: nn.Module, batch: Batch) -> Tensor:
        return loss(model, layout.restored(batch) if layout else batch)

    from_output = Loss(_applied(form, of_output), of_output, "its loss is yours of the logits and targets")
    from_model = Loss(of_model, None, "its loss is yours of the model and the batch")
    if targets is None:
        kinds = [from_model]
    elif next(iter(positional_parameters(loss)), "") in MODEL_NAMES:
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


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
