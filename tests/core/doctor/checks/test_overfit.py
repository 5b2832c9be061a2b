"""The check of memorizing on losses that cannot fall far or have no bound, and on batch normalization."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import results, scores_target
from tui_lab.core.doctor.checks.training import overfit
from tui_lab.core.doctor.measures.free_outputs import lowest_loss
from tui_lab.core.doctor.program.target import Target

Loss = Callable[[Tensor, Tensor], Tensor]


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Return inputs [8, 6] and targets [8, 5]."""
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 6, generator=generator), torch.randn(8, 5, generator=generator)


def soft_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """With targets that are nearly uniform, so that their entropy is nearly ln 5, and so is the loss at its minimum."""
    return -((0.1 * y).softmax(1) * outputs.log_softmax(1)).sum(1).mean()


def clipped_policy(outputs: Tensor, y: Tensor) -> Tensor:
    """As of PPO, after a policy that was uniform: advantages are y."""
    ratio = (outputs.log_softmax(1)[:, 0] - torch.tensor(0.2).log()).exp()
    return -torch.min(ratio * y[:, 0], ratio.clamp(0.9, 1.1) * y[:, 0]).mean()


def negative(outputs: Tensor, y: Tensor) -> Tensor:
    return clipped_policy(outputs, y) - 10.0


def actor_critic(outputs: Tensor, y: Tensor) -> Tensor:
    """A policy's loss, which falls for ever where an action has a negative advantage, and that of a critic."""
    return (outputs.log_softmax(1)[:, 0] * y[:, 0].abs()).mean() + outputs[:, 4].sub(3.0).square().mean()


def squared(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y)


class Blind(nn.Module):
    """Returns the same for every input, so that it cannot memorize two rows."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(6, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.output(torch.zeros_like(x))
        return outputs


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 5))


def program(model: nn.Module, loss: Loss, *, outputs_suffice: bool = True) -> Target:
    target = scores_target(model, batch, loss)
    return replace(target, output_loss=lambda output, b: loss(output, b[1])) if outputs_suffice else target


@pytest.mark.parametrize("loss", [soft_cross_entropy, pytest.param(clipped_policy, marks=pytest.mark.slow)])
def test_loss_with_a_high_minimum_is_not_judged(loss: Loss) -> None:
    assert results(overfit.check, program(network(), loss)) in ([], [("not judged", "")])


def test_negative_loss_whose_minimum_is_unknown_is_not_judged() -> None:
    target = program(network(), negative, outputs_suffice=False)
    assert results(overfit.check, target) == [("not judged", "")]


def test_high_rate_is_not_better_for_a_loss_without_a_bound() -> None:
    target = program(network(), actor_critic)
    for group in target.optimizers[0].param_groups:
        group["lr"] = 1e-6
    assert results(overfit.check, target) == [("not judged", "")]


def test_model_that_cannot_reach_what_free_outputs_do_is_a_finding() -> None:
    assert results(overfit.check, program(Blind(), squared)) == [("finding", "cannot_overfit")]
    assert results(overfit.check, program(network(), squared)) == []


def test_free_outputs_reach_the_minimum_of_a_loss() -> None:
    rows = program(network(), soft_cross_entropy)
    logits = 0.1 * rows.probe.batch[1]
    entropy = F.cross_entropy(logits, logits.softmax(1))
    assert lowest_loss(rows, rows.probe.batch) == pytest.approx(float(entropy), rel=1e-3)
    assert lowest_loss(program(network(), squared), rows.probe.batch) == pytest.approx(0.0, abs=1e-3)
    assert lowest_loss(program(network(), squared, outputs_suffice=False), rows.probe.batch) is None


def test_free_probabilities_stay_probabilities() -> None:
    """Without a limit, −log p would fall for ever."""
    model = nn.Sequential(network(), nn.Softmax(1))
    rows = program(model, lambda p, y: -p[:, 0].log().mean())
    lowest = lowest_loss(rows, rows.probe.batch)
    assert lowest is not None
    assert lowest >= -1e-6


def test_trial_whose_loss_refuses_diverged_weights_counts_as_one_that_does_not_learn() -> None:
    def refusing(outputs: Tensor, y: Tensor) -> Tensor:
        if float(outputs.detach().abs().max()) > 30:
            raise RuntimeError("all elements of input should be between 0 and 1")
        return soft_cross_entropy(outputs, y)

    assert ("finding", "cannot_overfit") not in results(overfit.check, program(network(), refusing))


@pytest.mark.parametrize(("at_lowest", "expected"), [(2.0, ("finding", "lr_too_high")), (3.8, ("not judged", ""))])
def test_rate_is_not_too_high_if_the_lowest_ones_raise_the_loss_too(
    monkeypatch: pytest.MonkeyPatch, at_lowest: float, expected: tuple[str, str]
) -> None:
    def losses(target: Target, measure: overfit.Measure, lr: float | None, updates: int) -> tuple[float, float]:
        return 2.0, 9.0 if lr is None or lr > 0.1 else 0.5 if lr > 0.01 else at_lowest

    target = program(network(), squared)
    for group in target.optimizers[0].param_groups:
        group["lr"] = 1.0
    monkeypatch.setattr(overfit, "_train", losses)
    assert results(overfit.check, target) == [expected]


class Normalized(nn.Module):
    """Its running statistics are far from those of a batch, so that evaluation says nothing of what is trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5))
        self.net[1].running_mean.fill_(0.5)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.net(100.0 * x)
        return outputs


def test_batch_normalization_is_measured_as_it_is_trained() -> None:
    target = program(Normalized(), squared)
    before: dict[str, Any] = {name: value.clone() for name, value in target.model.state_dict().items()}
    assert results(overfit.check, target) == []
    assert all(torch.equal(value, before[name]) for name, value in target.model.state_dict().items())


def test_loss_that_differentiates_within_is_measured() -> None:
    """A gradient penalty calls torch.autograd.grad, which fails within torch.no_grad()."""

    def penalized(model: nn.Module, b: tuple[Tensor, Tensor]) -> Tensor:
        x = b[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return F.mse_loss(model(b[0]), b[1]) + 0.001 * slope.square().mean()

    target = replace(scores_target(network(), batch, squared), loss_function=penalized)
    with torch.no_grad():
        assert not target.loss(target.batch(0)).requires_grad
    assert results(overfit.check, target) == []


class Adapted(nn.Module):
    """A frozen layer, and one trained weight that hardly matters. blind: it returns the same for every input."""

    def __init__(self, *, blind: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 5, bias=False).requires_grad_(requires_grad=False)
        self.weight = nn.Parameter(torch.ones(1))
        self.blind = blind

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(torch.zeros_like(x) if self.blind else x) + 1e-6 * self.weight
        return outputs


@pytest.mark.parametrize(("blind", "expected"), [(False, ("not judged", "")), (True, ("finding", "cannot_overfit"))])
def test_few_trained_weights_over_frozen_ones_need_not_memorize(*, blind: bool, expected: tuple[str, str]) -> None:
    target = program(Adapted(blind=blind), squared)
    trained = [p for p in target.model.parameters() if p.requires_grad]
    target = replace(target, optimizers=[torch.optim.AdamW(trained, lr=1e-3)])
    assert results(overfit.check, target) == [expected]
    assert [name for name, p in target.model.named_parameters() if p.requires_grad] == ["weight"]
