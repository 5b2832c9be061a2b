"""Networks of float series: statistics over time in a causal network are named, others pass."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import any_target
from tui_lab.core.doctor.checks.model import series
from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.program.target import Target

C, T = 8, 20


class OverChannels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), (C,)).transpose(1, 2)


class Centered(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(dim=-1, keepdim=True)


class Convolutions(nn.Module):
    """float [B, T] → float [B, T], with `norm` after the first layer; padded on the left, or on both sides."""

    def __init__(self, norm: nn.Module, causal: bool = True, width: int = 3) -> None:
        super().__init__()
        self.norm, self.causal, self.width = norm, causal, width
        self.first, self.second = nn.Conv1d(1, C, 1), nn.Conv1d(C, 1, width)

    def forward(self, x: Tensor) -> Tensor:
        padding = (self.width - 1, 0) if self.causal else (self.width // 2, self.width // 2)
        out: Tensor = self.second(F.pad(self.norm(self.first(x[:, None])), padding))[:, 0]
        return out


def series_target(model: nn.Module) -> Target:
    def forward(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = model(batch["x"])
        return out

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return F.mse_loss(model(batch["x"]), batch["y"])

    rows = torch.randn(4, T + 3, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)

    def rows_of(step: int) -> dict[str, Tensor]:
        return {"x": rows[:, :T], "y": rows[:, 3:]}

    return any_target(model, rows_of, forward=forward, loss=loss, tokens=None)


def found(model: nn.Module) -> list[Finding]:
    return list(series.check(series_target(model)))


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, C), nn.InstanceNorm1d(C, affine=True), nn.LayerNorm([C, T])])
def test_norm_over_time_of_a_causal_network_is_found(norm: nn.Module) -> None:
    [finding] = found(Convolutions(norm))
    assert (finding.kind, finding.code) == ("finding", "norm_axis")


def test_mean_over_time_of_a_causal_network_is_a_hint() -> None:
    [finding] = found(Convolutions(Centered()))
    assert (finding.kind, finding.code) == ("hint", "causal_leak")
    assert "test_series.py:" in finding.location


@pytest.mark.parametrize(
    "model",
    [
        Convolutions(OverChannels()),
        Convolutions(nn.BatchNorm1d(C)),
        Convolutions(nn.GroupNorm(2, C), causal=False),  # It sees both sides on purpose.
        Convolutions(nn.GroupNorm(2, C), width=1),  # It does not look back either.
    ],
)
def test_other_networks_of_series_pass(model: nn.Module) -> None:
    assert found(model) == []


def test_outputs_of_another_length_are_not_applicable() -> None:
    with pytest.raises(NotApplicable):
        found(nn.Linear(T, T - 1))
