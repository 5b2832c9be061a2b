"""A loss that no gradient leads away from is named, and no other check fails because of it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.checkpoint import checkpoint

from tests.core.doctor.checks.programs import Causal, cross_entropy, text
from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.loop.loss_graph import is_detached
from tui_lab.core.doctor.program.case import Case
from tui_lab.core.doctor.program.case_target import examine

Loss = Callable[[Tensor, Tensor], Tensor]


def without_gradients(logits: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return cross_entropy(logits, y)


def detached(logits: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(logits.detach(), y)


def from_a_number(logits: Tensor, y: Tensor) -> Tensor:
    return torch.tensor(cross_entropy(logits, y).item(), requires_grad=True) / 2


def of_predictions(logits: Tensor, y: Tensor) -> Tensor:
    return (logits.argmax(dim=-1) - y).float().pow(2).mean()


def of_predictions_with_gradient(logits: Tensor, y: Tensor) -> Tensor:
    return of_predictions(logits, y).requires_grad_()


class WithoutGraph(Causal):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def examined(loss: Loss | None = cross_entropy, model: nn.Module | None = None, **more: Any) -> Report:
    model = model or Causal()
    return examine(Case(model, text, loss=loss, optimizer=torch.optim.Adam(model.parameters(), lr=1e-3), **more))


def is_named(report: Report) -> bool:
    return [finding.code for finding in report.findings] == ["detached_loss"] and report.crashed == ()


@pytest.mark.parametrize(
    "loss", [without_gradients, detached, from_a_number, of_predictions, of_predictions_with_gradient]
)
def test_detached_loss_is_named_and_no_check_crashes(loss: Loss) -> None:
    assert is_named(examined(loss))


def test_output_without_a_graph_is_named() -> None:
    assert is_named(examined(model=WithoutGraph()))


def test_detached_loss_is_named_without_an_optimizer() -> None:
    assert is_named(examine(Case(Causal(), text, loss=detached)))


@pytest.mark.parametrize("loss", [detached, from_a_number])
def test_detached_loss_of_the_update_alone_is_named(loss: Loss) -> None:
    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        model.train()
        optimizers[0].zero_grad()
        loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()

    assert is_named(examined(cross_entropy, update=update))


def test_detached_loss_of_a_classifier_is_named() -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
    batch = torch.randn(8, 6), torch.randint(3, (8,))
    loss = lambda logits, y: nn.functional.cross_entropy(logits.detach(), y)  # noqa: E731
    assert is_named(examine(Case(model, batch, loss=loss, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))))


def test_model_whose_weights_are_all_frozen_is_named() -> None:
    model = Causal()
    report = examined(model=model.requires_grad_(False))
    assert [finding.code for finding in report.findings] == ["frozen_parameters"] and report.crashed == ()


def test_error_of_an_update_that_has_a_graph_is_shown() -> None:
    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
        raise RuntimeError("no such device")

    report = examined(cross_entropy, update=update)
    assert {crashed.message for crashed in report.crashed} == {"no such device"}


# Graphs in which the weights are hard to see


def test_checkpoint_hides_no_weights() -> None:
    model = Causal()
    x, y = text(0)
    start = torch.zeros(1, requires_grad=True)
    output: Any = checkpoint(lambda start: cross_entropy(model(x), y) + 0 * start.sum(), start, use_reentrant=True)
    assert not is_detached(output, ())


def test_tensors_of_an_optimizer_are_weights() -> None:
    offset = torch.zeros(1, requires_grad=True)
    loss = (offset - 1).pow(2).sum()
    assert not is_detached(loss, [offset]) and is_detached(loss, ())
