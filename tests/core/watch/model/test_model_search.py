"""Which module is taken for the model where a part of it is called before it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_lab
from tests.core.watch.loops import closed_events
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptModelConfig
from tui_lab.core.runs.folder import Run

X = torch.arange(6).reshape(2, 3)


class Body(nn.Module):
    """Returns a scalar beside its output, as a mixture of experts returns the loss that balances it."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        e: Tensor = self.tokens(x)
        return e, e.new_zeros(())


class Policy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.body.tokens.weight  # So the body has all parameters, too.

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x)[0])
        return logits

    @torch.no_grad()
    def generate(self, x: Tensor) -> Tensor:
        """Call forward itself, so that only the parts are called as modules, and once more at another place."""
        self.forward(x)
        return torch.cat((x, self.forward(x)[:, -1:].argmax(dim=-1)), dim=1)


class Alone(nn.Module):
    """Only calls the policy, as a parallel wrapper does."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.policy(x)
        return logits


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(x[:, :-1]).flatten(0, 1), x[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def model_name(run: tui_lab.WatchedRun) -> str:
    assert run.path is not None
    model = Run(run.path).config().model
    assert isinstance(model, ScriptModelConfig)
    return model.name


def test_rollouts_without_gradients_do_not_make_a_part_of_the_model_the_model(run: tui_lab.WatchedRun) -> None:
    policy = Policy()
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.1)
    for _ in range(3):
        step(policy, optimizer, policy.generate(X))
    events = closed_events(run)
    assert not [event for event in events if isinstance(event, ev.Evaluated | ev.Warned)]
    assert [event.tokens for event in events if isinstance(event, ev.StepDone)] == [6, 12, 18]
    assert model_name(run) == "Policy"


def test_wrapper_does_not_replace_a_model_that_is_evaluated_by_itself(run: tui_lab.WatchedRun) -> None:
    policy = Policy()
    wrapper = Alone(policy)
    optimizer = torch.optim.SGD(wrapper.parameters(), lr=0.1)
    val_losses = {}
    for n in (1, 2, 3):
        step(wrapper, optimizer, X)
        with torch.no_grad():
            val_losses[n] = F.cross_entropy(policy(X).flatten(0, 1), X.flatten()).item()
    events = closed_events(run)
    evaluated = {event.step: event.val_loss for event in events if isinstance(event, ev.Evaluated)}
    assert evaluated == pytest.approx(val_losses)
    assert model_name(run) == "Policy"
