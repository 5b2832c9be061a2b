"""What a replay names: infinities on purpose are not faults, and every cause, kind and row is that of a planted one."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.nonfinite.record import BatchRow, Origin
from tui_lab.core.nonfinite.rows import BatchShape
from tui_lab.core.nonfinite.trace import FirstNonFinite, Trace

B, T, D, V = 4, 6, 8, 5


class Model(nn.Module):
    """h = change(attention(embedding)), then a head. change: what goes wrong, of h [B, T, D] and bad rows bool [B]."""

    def __init__(self, change: Callable[[Tensor, Tensor], Tensor] = lambda h, bad: h) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.mask = Mask()
        self.layer = Layer(change)
        self.head = nn.Linear(D, V)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.embedding(x)
        h = (h @ h.transpose(1, 2) + self.mask(h)).softmax(dim=-1) @ h
        logits: Tensor = self.head(self.layer(h))
        return logits


class Mask(nn.Module):
    """A module whose output is infinite on purpose; it has a parameter, so that the mask has gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.1))

    def forward(self, h: Tensor) -> Tensor:
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        return (self.slope * torch.arange(float(T))).expand(T, T).masked_fill(~causal, -math.inf)


class Layer(nn.Module):
    def __init__(self, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Linear(D, D)
        self.change = change

    def forward(self, h: Tensor) -> Tensor:
        return self.change(self.linear(h), BAD)


BAD = torch.tensor([False, False, True, True])
ROWS = BAD[:, None, None]


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


def origin_of(model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy) -> Origin | None:
    """Replay a step of `model`; None if all is finite."""
    x = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(0))
    trace = Trace(model, lambda row: BatchRow(row=row))
    try:
        with trace.recording():
            trace.begin_batch((x,), BatchShape(B, T), B)
            value = loss(model(x), x)
            trace.check_loss(value)
            trace.begin_backward(value)
            value.backward()  # type: ignore[no-untyped-call]
            trace.check_sums({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    except FirstNonFinite as first:
        return first.origin
    return None


def rows_of(origin: Origin) -> list[int]:
    return [row.row for row in origin.rows]


def with_zero(h: Tensor) -> Tensor:
    """h with zeros in the bad rows."""
    return torch.where(ROWS, h * 0.0, h.abs() + 1.0)


def test_mask_of_infinities_and_finite_models_have_no_origin() -> None:
    assert origin_of(Model()) is None
    assert not torch.is_anomaly_enabled()


@pytest.mark.parametrize(
    ("change", "operation", "cause", "kind"),
    [
        (lambda h, bad: h * torch.where(ROWS, 1e38, 1.0) * 1e3, "mul", "overflow", "inf"),
        (lambda h, bad: (with_zero(h) * 1.0).log(), "log", "log_of_zero", "-inf"),
        (lambda h, bad: 1.0 / with_zero(h), "reciprocal", "division_by_zero", "inf"),
        (lambda h, bad: torch.where(ROWS, -h.abs() - 1.0, h.abs()).sqrt(), "sqrt", "invalid", "nan"),
        (lambda h, bad: (h.abs() + 1e3 * ROWS).exp(), "exp", "overflow", "inf"),
        (lambda h, bad: (h.abs() + 1e5 * ROWS).to(torch.float16).float(), "_to_copy", "overflow", "inf"),
        (lambda h, bad: h + h.masked_fill(ROWS, -math.inf).softmax(dim=-1), "_softmax", "all_masked", "nan"),
        (lambda h, bad: h + 0.0 * h.masked_fill(ROWS, -math.inf), "mul", "infinity", "nan"),
    ],
)
def test_operation_cause_kind_and_rows(
    change: Callable[[Tensor, Tensor], Tensor], operation: str, cause: str, kind: str
) -> None:
    origin = origin_of(Model(change))
    assert origin is not None
    assert (origin.operation, origin.cause, origin.kind) == (operation, cause, kind)
    assert (origin.phase, origin.module, origin.module_type) == ("forward", "layer", "Layer")
    assert rows_of(origin) == [2, 3]
    assert origin.line.startswith(__file__), "the line of the operation in the user's code"


def test_positions_within_a_row() -> None:
    def change(h: Tensor, bad: Tensor) -> Tensor:
        factor = torch.ones(B, T, 1)
        factor[1, 4] = 1e38
        return h * factor * 1e3

    origin = origin_of(Model(change))
    assert origin is not None and origin.rows == (BatchRow(row=1, positions=(4,)),)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_overflow_under_autocast_names_the_dtype(dtype: torch.dtype) -> None:
    large = 3e38 if dtype == torch.bfloat16 else 6e4
    model = Model()
    with torch.no_grad():
        model.layer.linear.weight.fill_(large)
        model.layer.linear.bias.fill_(large)

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(logits.float(), y)

    with torch.autocast("cpu", dtype=dtype):
        origin = origin_of(model, loss)
    assert origin is not None and origin.module == "layer.linear"
    assert (origin.dtype, origin.cause) == (str(dtype).removeprefix("torch."), "overflow")
    assert {values.name for values in origin.inputs} == {"input", "weight", "bias"}


def test_infinity_that_does_not_reach_the_loss_is_named_where_its_gradient_does() -> None:
    # The bad rows are those whose value is selected away; zero times infinity is NaN in their gradient.
    def selected(h: Tensor, bad: Tensor) -> Tensor:
        inverse = 1.0 / with_zero(h)
        return torch.where(ROWS, h, inverse)

    origin = origin_of(Model(selected))
    assert origin is not None
    assert (origin.quantity, origin.operation, origin.cause) == ("gradient", "reciprocal", "division_by_zero")
    assert rows_of(origin) == [2, 3] and origin.parameter.startswith("layer.linear.")


def test_first_gradient_is_the_first_in_time_not_in_the_order_of_parameters() -> None:
    origin = origin_of(Model(lambda h, bad: h + with_zero(h).sqrt()))
    assert origin is not None
    assert (origin.phase, origin.module, origin.operation) == ("backward", "layer", "SqrtBackward0")
    assert origin.line.startswith(__file__) and origin.parameter.startswith("layer.linear.")


@pytest.mark.parametrize(("name", "phase"), [("head.weight", "weights"), ("layer.linear.bias", "weights")])
def test_parameter_that_is_not_finite_already(name: str, phase: str) -> None:
    model = Model()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = math.nan
    origin = origin_of(model)
    assert origin is not None and (origin.phase, origin.parameter, origin.cause) == (phase, name, "already")


def test_data_that_are_not_finite_already_are_said_with_their_rows() -> None:
    model = nn.Sequential(nn.Linear(D, D), nn.Linear(D, V))
    x = torch.ones(B, D)
    x[2, 3] = math.nan
    trace = Trace(model, lambda row: BatchRow(row=row))
    with pytest.raises(FirstNonFinite) as found, trace.recording():
        trace.begin_batch((x,), BatchShape(B), B)
        trace.check_loss(model(x).sum())
    assert (found.value.origin.phase, rows_of(found.value.origin)) == ("data", [2])


@pytest.mark.parametrize(
    ("loss", "cause"),
    [
        (lambda logits, y: cross_entropy(logits, y) + (logits.sum() * 0.0).log(), "log_of_zero"),
        (lambda logits, y: cross_entropy(logits, y) / torch.zeros(()), "division_by_zero"),
        (lambda logits, y: cross_entropy(logits, y) + torch.full((), math.inf), "constant"),
        (lambda logits, y: cross_entropy(logits, torch.full_like(y, -100)), "invalid"),
    ],
)
def test_loss_of_finite_logits(loss: Callable[[Tensor, Tensor], Tensor], cause: str) -> None:
    origin = origin_of(Model(), loss)
    assert origin is not None
    assert (origin.quantity, origin.phase, origin.cause) == ("loss", "loss", cause)


def test_norm_of_finite_gradients_that_overflows() -> None:
    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return logits.sum() * 1e30

    origin = origin_of(model := Model(), loss)
    largest = {name: float(p.grad.abs().max()) for name, p in model.named_parameters() if p.grad is not None}
    assert origin is not None and (origin.phase, origin.parameter) == ("norm", max(largest, key=largest.__getitem__))
