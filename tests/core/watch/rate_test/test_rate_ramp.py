"""The ramp gives each step its rate, and takes nothing from the script for good."""

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from tui_lab.core.training.range_points import RateRange
from tui_lab.core.watch.rate_test.rate_ramp import RateRamp
from tui_lab.core.watch.rate_test.rated_group import RatedGroup, groups_line


def weights(n: int = 1) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(n)]


class Loop:
    """Steps of optimizers under a ramp."""

    def __init__(self, rate_range: RateRange) -> None:
        self.n_done = 0
        self.ramp = RateRamp(rate_range, lambda: self.n_done)

    def step(self, *optimizers: torch.optim.Optimizer) -> list[float]:
        """Make a step of each optimizer; return the rates of all their groups."""
        rates: list[float] = []
        for optimizer in optimizers:
            self.ramp.before_step(optimizer)
            rates += [float(group["lr"]) for group in optimizer.param_groups]
            optimizer.step()
            self.ramp.after_step()
        self.n_done += 1
        return rates


def test_groups_and_further_optimizers_keep_their_ratio_to_the_first_group() -> None:
    first, second, third = weights(3)
    own = torch.optim.AdamW([{"params": [first], "lr": 0.01}, {"params": [second], "lr": 0.001}])
    other = torch.optim.SGD([third], lr=0.05)
    loop = Loop(RateRange(3, 1e-4, 1e-2))
    for rate in (1e-4, 1e-3, 1e-2, 1e-2):
        assert loop.step(own, other) == pytest.approx([rate, 0.1 * rate, 5 * rate])
    groups = loop.ramp.groups
    assert [(group.optimizer, group.kind, group.group) for group in groups] == [
        (1, "AdamW", 1),
        (1, "AdamW", 2),
        (2, "SGD", 1),
    ]
    assert [group.ratio for group in groups] == pytest.approx([1, 0.1, 5])
    assert [group.parameters for group in groups] == [2, 2, 2]
    assert [group["lr"] for group in (*own.param_groups, *other.param_groups)] == [0.01, 0.001, 0.05]


def test_rates_that_a_loop_sets_by_hand_have_no_effect() -> None:
    optimizer = torch.optim.AdamW([{"params": weights(), "lr": 0.02}, {"params": weights(), "lr": 0.01}])
    loop = Loop(RateRange(3, 1e-4, 1e-2))
    for rate, own in ((1e-4, 0.02), (1e-3, 0.3), (1e-2, 0.0)):
        for group in optimizer.param_groups:
            group["lr"] = own if rate > 1e-4 else group["lr"]
        assert loop.step(optimizer) == pytest.approx([rate, 0.5 * rate])
        assert loop.ramp.latest_own_rate == own


def test_warm_up_that_begins_with_0_has_no_effect() -> None:
    optimizer = torch.optim.AdamW([{"params": weights(), "lr": 0.02}, {"params": weights(), "lr": 0.01}])
    schedule = LambdaLR(optimizer, lambda step: step / 4)
    loop = Loop(RateRange(2, 1e-3, 1e-2))
    assert loop.step(optimizer) == pytest.approx([1e-3, 5e-4])
    assert loop.ramp.latest_own_rate == 0.0
    schedule.step()
    assert loop.step(optimizer) == pytest.approx([1e-2, 5e-3])
    assert loop.ramp.latest_own_rate == pytest.approx(0.005)


@pytest.mark.parametrize(("kind", "highest"), [(torch.optim.SGD, 100.0), (torch.optim.AdamW, 1.0)])
def test_range_is_that_of_the_optimizer(kind: type[torch.optim.SGD | torch.optim.AdamW], highest: float) -> None:
    loop = Loop(RateRange(10))
    loop.step(kind(weights(), lr=0.1))
    assert loop.ramp.rates[-1] == pytest.approx(highest) and len(loop.ramp.rates) == 10


def test_rate_that_is_a_tensor_stays_one() -> None:
    optimizer = torch.optim.Adam(weights(), lr=torch.tensor(0.01))
    ramp = RateRamp(RateRange(2, 1e-3, 1e-2), lambda: 0)
    ramp.before_step(optimizer)
    assert isinstance(rate := optimizer.param_groups[0]["lr"], torch.Tensor) and float(rate) == pytest.approx(1e-3)
    ramp.after_step()
    assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("rate_range", "is_refused"), [(RateRange(4, high=1e-5), False), (RateRange(4, low=2.0), True)]
)
def test_one_end_of_the_range_fits_to_the_other_of_the_optimizer(rate_range: RateRange, *, is_refused: bool) -> None:
    """From 1e-6 to 1 for Adam."""
    loop = Loop(rate_range)
    loop.step(torch.optim.Adam(weights(), lr=0.1))
    assert bool(loop.ramp.problem) is is_refused and bool(loop.ramp.rates) is not is_refused


def test_line_of_groups_names_those_with_another_rate_and_no_more_than_a_few() -> None:
    same = [RatedGroup(1, "AdamW", number, "", 2, 1.0) for number in (1, 2)]
    assert groups_line(same) == "" == groups_line([])
    encoder = RatedGroup(1, "AdamW", 3, "encoder", 2, 0.1)
    line = groups_line([*same, encoder])
    assert "group 1" in line and "group encoder × 0.1" in line and "group 2" not in line
    line = groups_line([RatedGroup(1, "Muon", 1, "", 2, 1.0), RatedGroup(2, "AdamW", 1, "", 2, 0.05)])
    assert "optimizer 1 (Muon)" in line and "optimizer 2 (AdamW) × 0.05" in line
    layers = [RatedGroup(1, "AdamW", number, "", 2, 0.8**number) for number in range(1, 25)]
    assert groups_line([same[0], *layers]).count("×") < 5
