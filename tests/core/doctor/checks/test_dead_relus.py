"""Units that never fire, and models to which that does not apply."""

import pytest
import torch
from torch import Tensor, nn

from tests.core.doctor.checks.programs import results, scores_target
from tui_lab.core.doctor.checks.model import dead_relus


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)


@pytest.mark.parametrize(
    ("activation", "bias", "expected"),
    [
        (nn.ReLU(), 0.0, []),
        (nn.ReLU(), -100.0, [("finding", "dead_relus")]),
        (nn.GELU(), 0.0, [("not applicable", "")]),
        (nn.Sigmoid(), 0.0, [("not applicable", "")]),
    ],
)
def test_only_relus_are_judged(activation: nn.Module, bias: float, expected: list[tuple[str, str]]) -> None:
    torch.manual_seed(0)
    first = nn.Linear(4, 16)
    nn.init.constant_(first.bias, bias)
    target = scores_target(nn.Sequential(first, activation, nn.Linear(16, 3)), batch, nn.functional.cross_entropy)
    assert results(dead_relus.check, target) == expected


def test_model_of_one_example_without_an_axis_of_rows_is_judged() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    target = scores_target(model, lambda step: (batch(step)[0][0], batch(step)[1][0]), nn.functional.cross_entropy)
    with torch.enable_grad():
        shares = dead_relus.dead_shares(model, lambda: target.model(target.batch(0)[0]))
    assert set(shares) == {"2"}
