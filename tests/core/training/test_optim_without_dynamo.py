"""The optimizers do what torch's do, to the bit. tests/cli/test_output.py: a run does not import its compiler."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from tui_lab.core.training import optim_without_dynamo

Make = Callable[..., Optimizer]
PAIRS: list[tuple[Make, Make, dict[str, Any]]] = [
    (optim_without_dynamo.Adam, torch.optim.Adam, {"weight_decay": 0.1}),
    (optim_without_dynamo.AdamW, torch.optim.AdamW, {"betas": (0.8, 0.95)}),
    (optim_without_dynamo.SGD, torch.optim.SGD, {"momentum": 0.9}),
    (optim_without_dynamo.Muon, torch.optim.Muon, {"momentum": 0.9}),
]
ids = [ours.__name__ for ours, _, _ in PAIRS]


def layer() -> nn.Linear:
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(5, 4, bias=False)
    nn.init.normal_(linear.weight, generator=generator)
    return linear


def train(model: nn.Linear, optimizer: Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(3, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("ours", "torchs", "options"), PAIRS, ids=ids)
def test_weights_and_states_are_interchangeable_with_torchs(ours: Make, torchs: Make, options: dict[str, Any]) -> None:
    mine, theirs = layer(), layer()
    my_optimizer = ours(mine.parameters(), lr=0.01, **options)
    their_optimizer = torchs(theirs.parameters(), lr=0.01, **options)
    train(mine, my_optimizer, range(3))
    train(theirs, their_optimizer, range(3))
    assert torch.equal(mine.weight, theirs.weight)
    mine_again = layer()
    mine_again.load_state_dict(theirs.state_dict())
    going_on = ours(mine_again.parameters(), lr=0.5, **options)
    going_on.load_state_dict(deepcopy(their_optimizer.state_dict()))
    train(mine_again, going_on, range(3, 6))
    train(theirs, their_optimizer, range(3, 6))
    assert torch.equal(mine_again.weight, theirs.weight)


@pytest.mark.parametrize(("ours", "torchs", "options"), PAIRS, ids=ids)
def test_step_has_no_gradient_and_calls_its_hooks(ours: Make, torchs: Make, options: dict[str, Any]) -> None:
    model, called = layer(), []
    optimizer = ours(model.parameters(), lr=0.01, **options)
    optimizer.register_step_post_hook(lambda *_: called.append(torch.is_grad_enabled()))
    train(model, optimizer, range(1))
    assert called and model.weight.is_leaf and torch.is_grad_enabled()
