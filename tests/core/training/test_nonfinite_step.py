"""What became non-finite first in a step of the trainer: overflows planted at a step, in a layer, for some rows."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.core.tiny import of_kind, same_weights, trainer
from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import Origin
from tui_lab.core.training.trainer import Trainer

FAILS_AT = 3
TWO_LAYERS = ("model.n_layers=2", "train.batch_size=6")


def plant(training: Trainer, module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Change the output [B, T, …] of `module` at step FAILS_AT. change: (output, bool [B]: the bad rows) → output."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if training.step != FAILS_AT:
            return output
        return change(output, bad_rows(training)[: len(output)])

    module.register_forward_hook(hook)


def bad_rows(training: Trainer) -> Tensor:
    """Rows 1 and 4 of 6."""
    return torch.tensor([False, True, False, False, True, False])


def spread(rows: Tensor, output: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (output.dim() - 1))


def origin_of(training: Trainer) -> Origin:
    events = list(training.events())
    [event] = of_kind(ev.NonFinite, events)
    assert isinstance(events[-1], ev.Failed) and event.step == events[-1].step == FAILS_AT
    return event.origin


def rows_of(origin: Origin) -> list[int]:
    return [row.row for row in origin.rows]


def part(training: Trainer, name: str) -> nn.Module:
    return training.model.get_submodule(name)


@pytest.mark.parametrize("name", ["layers.0.W_2", "layers.1.norm1", "layers.1.attention.W_V", "W_E"])
def test_overflow_in_the_forward_pass_names_module_and_rows(name: str) -> None:
    training = trainer(*TWO_LAYERS)
    module = part(training, name)
    plant(training, module, lambda output, rows: output * torch.where(spread(rows, output), 1e38, 1.0) * 1e3)
    origin = origin_of(training)
    assert (origin.quantity, origin.phase, origin.module) == ("loss", "forward", name)
    assert origin.module_type == type(module).__name__
    assert origin.kind in ("inf", "-inf") and origin.cause == "overflow" and origin.dtype == "float32"
    assert rows_of(origin) == [1, 4] and origin.n_batch == 6
    batch = training.loader.batch(FAILS_AT)
    assert [row.example for row in origin.rows] == batch.ids[[1, 4]].tolist()
    assert all(row.text for row in origin.rows)
    assert all(math.isfinite(r.low or 0.0) and not r.n_nan + r.n_inf for r in origin.inputs)
    assert origin.output is not None and origin.output.n_inf > 0


def test_weights_stay_bit_for_bit() -> None:
    training, stopped = trainer(*TWO_LAYERS), trainer(*TWO_LAYERS, f"train.steps={FAILS_AT}")
    plant(training, part(training, "layers.0.W_2"), lambda output, rows: output / 0.0)
    origin_of(training)
    list(stopped.events())
    assert same_weights(training, stopped)
    assert all(p.grad is None for p in training.model.parameters())


def test_gradient_that_overflows_names_the_operation_and_the_first_parameter() -> None:
    training = trainer(*TWO_LAYERS)

    def change(output: Tensor, rows: Tensor) -> Tensor:
        # The root of zero: its value is zero, its derivative infinite.
        inside = torch.where(spread(rows, output), output * 0.0, 1.0)
        return output + inside.sqrt()

    plant(training, part(training, "layers.0.W_2"), change)
    origin = origin_of(training)
    assert (origin.quantity, origin.phase, origin.module) == ("gradient", "backward", "layers.0.W_2")
    assert origin.operation == "SqrtBackward0" and rows_of(origin) == [1, 4]
    assert origin.cause == "division_by_zero"
    # The biases come first where both are computed by one operation; what follows the layer in the model stays finite.
    assert origin.parameter in ("layers.0.W_2.bias", "layers.0.W_2.weight")


def test_gradient_of_a_weight_that_overflows_in_its_product_names_the_rows() -> None:
    training = trainer(*TWO_LAYERS)
    layer = part(training, "layers.1")
    # The activations of two rows are large and their gradients, too, but only the product of both exceeds float32.
    W_2 = layer.get_submodule("W_2")

    class Extreme(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
            ctx.save_for_backward(rows)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
            (rows,) = ctx.saved_tensors
            return torch.where(spread(rows, g), g.sign() * 1e25, g), None

    def extreme(output: Tensor, rows: Tensor) -> Tensor:
        result: Tensor = Extreme.apply(output, rows)  # type: ignore[no-untyped-call]
        return result

    def before(module: nn.Module, args: Any) -> Any:
        if training.step != FAILS_AT:
            return None
        rows = spread(bad_rows(training), args[0])
        return (torch.where(rows, args[0] + 1e25, args[0]),)

    W_2.register_forward_pre_hook(before)
    plant(training, W_2, lambda output, rows: extreme(output, rows) * 1e-25)
    origin = origin_of(training)
    assert (origin.phase, origin.module, origin.parameter) == ("backward", "layers.1.W_2", "layers.1.W_2.weight")
    assert rows_of(origin) == [1, 4]


def test_weights_that_are_not_finite_before_the_step_are_named() -> None:
    training = trainer(*TWO_LAYERS)
    events = training.events()
    while training.step < FAILS_AT:
        next(events)
    with torch.no_grad():
        training.model.get_parameter("layers.1.W_1.weight")[0, 0] = math.nan
    [event] = of_kind(ev.NonFinite, events)
    origin = event.origin
    assert (origin.phase, origin.parameter, origin.n_parameters) == ("weights", "layers.1.W_1.weight", 1)
    assert origin.inputs[0].n_nan == 1


def test_micro_batch_and_its_rows_are_those_of_the_whole_batch() -> None:
    training = trainer(*TWO_LAYERS, "train.accumulate=3")

    calls = [0]

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if training.step != FAILS_AT:
            return output
        calls[0] += 1
        is_third = calls[0] % 3 == 0
        return output * torch.tensor([1.0, 3e38 if is_third else 1.0]).view(2, 1, 1) * 1e3

    part(training, "layers.1").get_submodule("W_1").register_forward_hook(hook)
    origin = origin_of(training)
    assert (origin.module, origin.micro_batch, rows_of(origin)) == ("layers.1.W_1", 2, [5])
    assert origin.rows[0].example == training.loader.batch(FAILS_AT).ids[5]


def test_overflow_of_float16_names_the_dtype_and_the_end_of_the_scale() -> None:
    training = trainer(*TWO_LAYERS, "train.precision=fp16")
    plant(
        training,
        part(training, "layers.1.W_1"),
        lambda output, rows: output * torch.where(spread(rows, output), 6e4, 1.0).to(output.dtype) * 10,
    )
    origin = origin_of(training)
    assert (origin.module, origin.dtype, origin.cause) == ("layers.1.W_1", "float16", "overflow")
    assert rows_of(origin) == [1, 4]


def test_gradient_that_overflows_with_a_large_scale_only_is_no_failure() -> None:
    training = trainer(*TWO_LAYERS, "train.precision=fp16", "train.steps=4")
    events = list(training.events())
    assert not of_kind(ev.NonFinite, events) and isinstance(events[-1], ev.Stopped)


def test_loss_that_is_not_finite_although_logits_are_is_said_to_be_the_loss() -> None:
    training = trainer(*TWO_LAYERS)
    inner = training.hooks.loss_sum

    def loss_sum(model: Any, x: Tensor, y: Tensor, losses: list[Tensor] | None = None) -> Tensor:
        loss = inner(model, x, y, losses)
        return loss + (model(x)[:, -1].sum() * 0.0).log() if training.step == FAILS_AT else loss

    training.hooks = type(training.hooks)(loss_sum=loss_sum)
    origin = origin_of(training)
    assert (origin.phase, origin.cause, origin.kind) == ("loss", "log_of_zero", "-inf")


def test_replay_that_is_finite_is_said_to_be_unknown() -> None:
    training = trainer(*TWO_LAYERS)
    calls = [0]

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if training.step == FAILS_AT:
            calls[0] += 1
        return output * math.inf if calls[0] == 1 and training.step == FAILS_AT else output

    part(training, "layers.1").register_forward_hook(
        lambda module, args, output: (hook(module, args, output[0]), output[1])
    )
    assert origin_of(training).phase == "unknown"
