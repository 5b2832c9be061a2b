"""Which loss counts as the validation loss of a script, and of which step it is."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_lab
from tests.core.watch.loops import closed_events
from tui_lab.core import events as ev


class LossInside(nn.Module):
    """Returns logits and, given targets, a loss that is a sum over `divisor`, as Hugging Face models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.layers(x)
        if y is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / y.numel()


def evaluations(run: tui_lab.WatchedRun) -> list[ev.Evaluated]:
    return [event for event in closed_events(run) if isinstance(event, ev.Evaluated)]


def step(model: LossInside, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    loss = model(x, x)[1]
    loss.backward()
    optimizer.step()


def test_loss_that_the_model_returns_counts(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        returned = model(x, x)[1].item()
    step(model, optimizer, x)
    (evaluated,) = evaluations(run)
    assert (evaluated.step, evaluated.examples) == (1, 2)
    assert evaluated.val_loss == pytest.approx(returned, rel=1e-6)


def test_loss_computed_from_the_logits_counts_once(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        losses = [F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten()).item() for x in (x, x.flip(0))]
    (evaluated,) = evaluations(run)
    assert (evaluated.step, evaluated.examples) == (1, 4)
    assert evaluated.val_loss == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_val_loss_that_the_script_logs_replaces_the_observed_one(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    for _ in range(2):
        step(model, optimizer, x)
        with torch.no_grad():
            model(x, x)
        run.log(val_loss=3.5, accuracy=0.5)
    all_events = closed_events(run)
    evaluated = [event for event in all_events if isinstance(event, ev.Evaluated)]
    assert [(event.step, event.val_loss, event.examples) for event in evaluated] == [(1, 3.5, 2), (2, 3.5, 2)]
    kinds = [(event.kind, event.step) for event in all_events]
    assert kinds.index(("step", 2)) < kinds.index(("logged", 2))
    assert [event.step for event in all_events if isinstance(event, ev.Logged)] == [1, 2]


def mean_loss(model: LossInside, batches: list[Tensor]) -> float:
    with torch.no_grad():
        losses = [F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten()).item() for x in batches]
    return sum(losses) / len(losses)


def test_test_loss_of_a_model_that_was_loaded_is_no_validation_loss(run: tui_lab.WatchedRun) -> None:
    """As torch's word language model does after the training, with the best model."""
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    val_data = [torch.arange(6).reshape(2, 3)]
    test_data = [torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3, dtype=torch.int64)]
    step(model, optimizer, val_data[0])
    val_loss = mean_loss(model, val_data)
    mean_loss(copy.deepcopy(model), test_data)
    (evaluated,) = evaluations(run)
    assert evaluated.val_loss == pytest.approx(val_loss, rel=1e-6)


UNEQUAL = (torch.arange(12).reshape(4, 3) % 7, torch.arange(3).reshape(1, 3))
"""The batches of an evaluation, of which the last one is smaller."""


def evaluated_loss(run: tui_lab.WatchedRun, means: Callable[[list[float]], object]) -> ev.Evaluated:
    """Evaluate UNEQUAL between two steps, and keep what `means` makes of the two losses in a variable."""
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        kept = means([F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten()).item() for x in UNEQUAL])  # noqa: F841
    step(model, optimizer, x)
    (evaluated,) = evaluations(run)
    return evaluated


class Tracker:
    def __init__(self, loss: float) -> None:
        self.losses = [0.5, loss]


@pytest.mark.parametrize(
    "wrapped",
    [float, np.float32, lambda loss: {"val": loss}, Tracker],
    ids=["variable", "number of NumPy", "dict", "object"],
)
def test_mean_by_rows_counts_where_a_variable_of_the_script_holds_it(
    run: tui_lab.WatchedRun, wrapped: Callable[[float], object]
) -> None:
    torch.manual_seed(0)
    seen: list[list[float]] = []

    def by_rows(losses: list[float]) -> object:
        seen.append(losses)
        return wrapped((4 * losses[0] + losses[1]) / 5)

    evaluated = evaluated_loss(run, by_rows)
    [(first, last)] = seen
    assert abs(first - last) > 0.01
    assert evaluated.val_loss == pytest.approx((4 * first + last) / 5, rel=1e-6)


def test_mean_over_batches_counts_where_no_variable_shows_another(run: tui_lab.WatchedRun) -> None:
    torch.manual_seed(0)
    seen: list[list[float]] = []
    evaluated = evaluated_loss(run, seen.append)
    assert evaluated.val_loss == pytest.approx(sum(seen[0]) / 2, rel=1e-6)


def repeated(model: LossInside, means: list[float]) -> None:
    """As with accelerate's gather_for_metrics: each loss as often as the batch has rows; the mean is a tensor."""
    losses = []
    with torch.no_grad():
        for x in UNEQUAL:
            loss = F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten())
            losses.append(loss.repeat(4)[: len(x)])
    means.append(torch.cat(losses).mean().item())


def test_mean_in_a_tensor_shows_the_weights_also_of_the_evaluation_after_the_last_step(
    run: tui_lab.WatchedRun,
) -> None:
    torch.manual_seed(0)
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    printed: list[str] = []

    def evaluate() -> Tensor:
        means: list[float] = []
        repeated(model, means)
        printed.append(f"{means[0]:.9f}")
        return torch.tensor(means[0])

    step(model, optimizer, x)
    eval_loss = evaluate()
    step(model, optimizer, x)
    del eval_loss
    evaluate()
    recorded = closed_events(run)
    found = [event.val_loss for event in recorded if isinstance(event, ev.Evaluated)]
    assert found == pytest.approx([float(text) for text in printed], rel=1e-6)
    assert not any(isinstance(event, ev.Warned) for event in recorded)


PADDED = torch.tensor([[1, 2, 3], [3, 4, 0]])
"""Of its 6 targets, 5 count."""
WEIGHTS: dict[str, Callable[[Tensor], float]] = {
    "rows": len,
    "targets": lambda x: float((x != 0).sum()),
    "batches": lambda x: 1.0,
    "roots": lambda x: len(x) ** 0.5,
}


def accumulated(model: LossInside, weight: Callable[[Tensor], float], *, in_tensor: bool) -> tuple[float, list[float]]:
    """Return the mean of three batches as many scripts compute it, only the sums being variables, and the losses."""
    losses = []
    total: Any = torch.tensor(0.0) if in_tensor else 0.0
    n = 0.0
    with torch.no_grad():
        for x in (UNEQUAL[0], PADDED, UNEQUAL[1]):
            loss = F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten(), ignore_index=0)
            total += (loss if in_tensor else loss.item()) * weight(x)
            n += weight(x)
            losses.append(loss.item())
    return float(total) / n, losses


@pytest.mark.parametrize("in_tensor", [False, True])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_sum_of_the_losses_so_far_shows_the_weights(run: tui_lab.WatchedRun, kind: str, in_tensor: bool) -> None:
    torch.manual_seed(0)
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    shown = ["{:.9f} {}".format(*accumulated(model, WEIGHTS[kind], in_tensor=in_tensor))]
    step(model, optimizer, x)
    recorded = closed_events(run)
    [evaluated] = [event for event in recorded if isinstance(event, ev.Evaluated)]
    is_known = kind != "roots"
    printed, _, losses = shown[0].partition(" ")
    over_batches = sum(json.loads(losses)) / 3
    assert evaluated.val_loss == pytest.approx(float(printed) if is_known else over_batches, rel=1e-6)
    assert any(isinstance(event, ev.Warned) for event in recorded) is not is_known


class SumInside(LossInside):
    """As translation models do: the loss is a sum over the targets of all rows, and padding does not count."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.layers(x)
        assert y is not None
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum", ignore_index=0)


@pytest.mark.parametrize("by_rows", [False, True])
def test_summed_losses_are_shown_by_target_or_as_the_script_divides_them(
    run: tui_lab.WatchedRun, by_rows: bool
) -> None:
    torch.manual_seed(0)
    model = SumInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        sums = [model(x, x)[1].item() for x in UNEQUAL]
    per_row = sum(sums) / 5 if by_rows else None
    step(model, optimizer, x)
    (evaluated,) = evaluations(run)
    per_target = sum(sums) / sum(int((x != 0).sum()) for x in UNEQUAL)
    assert evaluated.val_loss == pytest.approx(per_row or per_target, rel=1e-6)
    assert evaluated.perplexity == pytest.approx(math.exp(per_target), rel=1e-6)


class Teacher(nn.Module):
    """Another class than that of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 7)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.table(x), None


def loss_of(model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten()).item()


@pytest.mark.parametrize(
    "other",
    [copy.deepcopy, torch.optim.swa_utils.AveragedModel, lambda model: Teacher()],
    ids=["copy", "average", "teacher"],
)
@pytest.mark.parametrize("other_first", [False, True])
def test_losses_of_another_model_do_not_count(
    other: Callable[[nn.Module], nn.Module], other_first: bool, run: tui_lab.WatchedRun
) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    another = other(model)
    x = torch.arange(6).reshape(2, 3)
    for _ in range(2):
        step(model, optimizer, x)
        models = (another, model) if other_first else (model, another)
        losses = {id(each): loss_of(each, x) for each in models}
    step(model, optimizer, x)
    evaluated = evaluations(run)[-1]
    assert evaluated.val_loss == pytest.approx(losses[id(model)], rel=1e-6)
    assert evaluated.examples == 2


def test_loss_inside_another_model_does_not_count(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    average = copy.deepcopy(model)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        returned = model(x, x)[1].item()
        average(x, x)
    step(model, optimizer, x)
    (evaluated,) = evaluations(run)
    assert evaluated.val_loss == pytest.approx(returned, rel=1e-6)


def test_loss_counts_after_a_further_trained_part(run: tui_lab.WatchedRun) -> None:
    """The head is a module of the class of the model, and trained with it."""
    body, head = nn.Linear(4, 7), nn.Linear(7, 7)
    optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
    x, y = torch.ones(2, 4), torch.arange(2)
    for _ in range(2):
        loss = F.cross_entropy(head(body(x)), y)
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            val_loss = F.cross_entropy(head(body(x)), y).item()
    assert evaluations(run)[-1].val_loss == pytest.approx(val_loss, rel=1e-6)


def evaluations_with(run: tui_lab.WatchedRun, loss: Callable[[Tensor, Tensor], Tensor], n: int) -> list[ev.Event]:
    """Evaluate `n` times on data that is called val, with this loss of the logits, and return all events."""
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    for _ in range(n):
        step(model, optimizer, x)
        val_data = [x]
        with torch.no_grad():
            for rows in val_data:
                loss(model(rows)[0], rows)
    step(model, optimizer, x)
    return closed_events(run)


def own_loss(logits: Tensor, y: Tensor) -> Tensor:
    return -logits.log_softmax(dim=-1).gather(-1, y[..., None]).mean()


def test_evaluation_without_a_known_loss_is_a_warning_once(run: tui_lab.WatchedRun) -> None:
    events = evaluations_with(run, own_loss, 4)
    assert not [event for event in events if isinstance(event, ev.Evaluated)]
    (warning,) = (event for event in events if isinstance(event, ev.Warned))
    assert "val_loss" in warning.message


def test_evaluation_with_a_known_loss_is_no_warning(run: tui_lab.WatchedRun) -> None:
    events = evaluations_with(run, lambda logits, y: F.cross_entropy(logits.flatten(0, 1), y.flatten()), 4)
    assert len([event for event in events if isinstance(event, ev.Evaluated)]) == 4
    assert not [event for event in events if isinstance(event, ev.Warned)]
