"""Healthy programs of other kinds than classifiers and language models, as a script runs them, get no finding.

Each loop trains modules that it may call several times, differentiates within its loss, or has a second module that no
optimizer may change.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.checks.programs import results
from tui_lab.core.doctor.checks.training import gradients, optimizer_parameters
from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.runner import examine
from tui_lab.core.doctor.script.capture import Capture
from tui_lab.core.doctor.script.target import target_from_script, whole_model

ROWS, UPDATES = 16, 6


def network(n_in: int = 4, n_out: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, 16), nn.Tanh(), nn.Linear(16, n_out))


@dataclass
class Loop:
    """The modules whose weights are trained, and the loss of a step."""

    trained: list[nn.Module]
    loss: Callable[[], Tensor]


def q_learning() -> Loop:
    """As a popular short script: the target network gets a gradient, too."""
    online, target = network(), network()
    target.load_state_dict(online.state_dict())

    def loss() -> Tensor:
        states, following = torch.randn(ROWS, 4), torch.randn(ROWS, 4)
        chosen = online(states).gather(1, torch.randint(0, 2, (ROWS, 1)))
        return F.smooth_l1_loss(chosen, states[:, :1] + 0.9 * target(following).max(1)[0].unsqueeze(1))

    return Loop([online], loss)


def detached_target() -> Loop:
    online = network()
    target = copy.deepcopy(online)

    def loss() -> Tensor:
        states, following = torch.randn(ROWS, 4), torch.randn(ROWS, 4)
        better = online(following).argmax(1, keepdim=True)
        expected = states[:, :1] + 0.9 * target(following).gather(1, better)
        return F.mse_loss(online(states).gather(1, torch.randint(0, 2, (ROWS, 1))), expected.detach())

    return Loop([online], loss)


def random_network() -> Loop:
    """Exploration by the error of predicting a random network."""
    predictor, fixed = network(), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def loss() -> Tensor:
        x = torch.randn(ROWS, 4)
        error: Tensor = predictor(x) - fixed(x).detach()
        return error.square().mean()

    return Loop([predictor], loss)


def reward_model() -> Loop:
    """The bias of the last layer cancels in the difference of two rewards."""
    rewards = network(4, 1)

    def loss() -> Tensor:
        better, worse = torch.randn(ROWS, 4) + 0.5, torch.randn(ROWS, 4)
        return -F.logsigmoid(rewards(better) - rewards(worse)).mean()

    return Loop([rewards], loss)


class Hamiltonian(nn.Module):
    """Returns the slope of an energy, to which the last bias adds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = network(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return torch.stack([slope[:, 1], -slope[:, 0]], 1)


def hamiltonian() -> Loop:
    model = Hamiltonian()

    def loss() -> Tensor:
        x = torch.randn(ROWS, 2)
        return F.mse_loss(model(x), torch.stack([x[:, 1], -x[:, 0].sin()], 1))

    return Loop([model], loss)


def physics() -> Loop:
    """du/dt = -u with u(0) = 1."""
    model = network(1, 1)

    def loss() -> Tensor:
        t = torch.rand(ROWS, 1).requires_grad_()
        u = model(t)
        (slope,) = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)
        start: Tensor = model(torch.zeros(1, 1)) - 1
        total: Tensor = (slope + u).square().mean() + start.square().mean()
        return total

    return Loop([model], loss)


def adversarial_examples() -> Loop:
    model = network()

    def loss() -> Tensor:
        x = torch.randn(ROWS, 4)
        y = x[:, :2].argmax(1)
        worse = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(worse), y), worse)
        return F.cross_entropy(model(x), y) + F.cross_entropy(model((x + 0.1 * slope.sign()).detach()), y)

    return Loop([model], loss)


def batched_policy() -> Loop:
    """Acts on single states with gradients on, and trains on all of them at once."""
    policy = network()

    def loss() -> Tensor:
        states = [torch.randn(4) for _ in range(ROWS)]
        actions = [int(policy(state).softmax(0).multinomial(1)) for state in states]
        chosen = torch.distributions.Categorical(logits=policy(torch.stack(states)))
        weights = torch.tensor([float(state[0]) for state in states])
        loss: Tensor = -(chosen.log_prob(torch.tensor(actions)) * weights).mean()  # type: ignore[no-untyped-call]
        return loss

    return Loop([policy], loss)


def sparse_embedding() -> Loop:
    users, items = nn.Embedding(40, 8, sparse=True), nn.Embedding(50, 8, sparse=True)

    def loss() -> Tensor:
        rows = torch.randint(0, 40, (ROWS,))
        scores = (users(rows) * (items(rows) - items(torch.randint(0, 50, (ROWS,))))).sum(1)
        return -F.logsigmoid(scores).mean()

    return Loop([users, items], loss)


def quantiles() -> Loop:
    """As many levels as a trial takes rows."""
    model, levels = network(4, 3), torch.tensor([0.1, 0.5, 0.9])

    def loss() -> Tensor:
        x = torch.randn(ROWS, 4)
        error: Tensor = x[:, :1] - model(x)
        return torch.max(levels * error, (levels - 1) * error).mean()

    return Loop([model], loss)


HEALTHY = (
    quantiles, q_learning, detached_target, random_network, reward_model, hamiltonian, physics, adversarial_examples,
    batched_policy, sparse_embedding,
)  # fmt: skip


def target_of(loop: Loop) -> Target:
    """Train as a script does, and return the target."""
    capture = Capture(lambda: recorder.created_optimizers)
    with LoopRecorder(capture=capture) as recorder:
        parameters = [p for module in loop.trained for p in module.parameters()]
        is_sparse = any(isinstance(module, nn.Embedding) for module in loop.trained)
        kind: type[Any] = torch.optim.SparseAdam if is_sparse else torch.optim.Adam
        optimizer = kind(parameters)
        for _ in range(UPDATES):
            optimizer.zero_grad()
            loop.loss().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    capture.close()
    model = whole_model(capture, recorder.model, recorder.optimizers)
    return target_from_script(capture, recorder.record(), model, recorder.optimizers, trained=False)


def examined(make: Callable[[], Loop]) -> Report:
    torch.manual_seed(0)
    return examine(target_of(make()))


SLOW = (reward_model, adversarial_examples, batched_policy, hamiltonian)


@pytest.mark.parametrize(
    "make",
    [pytest.param(make, marks=pytest.mark.slow if make in SLOW else (), id=make.__name__) for make in HEALTHY],
)
def test_healthy_program_has_no_finding_and_no_check_crashes(make: Callable[[], Loop]) -> None:
    report = examined(make)
    assert [finding.code for finding in (*report.findings, *report.hints)] == []
    assert report.crashes == {}


def forgotten_decoder() -> Loop:
    """A second part of the model that the optimizer does not hold."""
    encoder, decoder = network(4, 2), network(2, 4)

    def loss() -> Tensor:
        x = torch.randn(ROWS, 4)
        return F.mse_loss(decoder(encoder(x)), x)

    return Loop([encoder], loss)


def forgotten_twin() -> Loop:
    """Two towers of one structure and different weights, of which the optimizer holds one."""
    left, right = network(), network()

    def loss() -> Tensor:
        return F.mse_loss(left(torch.randn(ROWS, 4)), right(torch.randn(ROWS, 4)) + 1)

    return Loop([left], loss)


def detached_part() -> Loop:
    encoder, decoder = network(4, 2), network(2, 4)

    def loss() -> Tensor:
        x = torch.randn(ROWS, 4)
        return F.mse_loss(decoder(encoder(x).detach()), x)

    return Loop([encoder, decoder], loss)


def checked(target: Target) -> Iterator[tuple[str, str]]:
    yield from results(optimizer_parameters.check, target)
    yield from results(gradients.check, target)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (forgotten_decoder, "missing_from_optimizer"),
        (forgotten_twin, "missing_from_optimizer"),
        (detached_part, "missing_gradient"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_part_of_the_model_that_is_left_out_is_a_finding(make: Callable[[], Loop], code: str) -> None:
    torch.manual_seed(0)
    assert list(checked(target_of(make()))) == [("finding", code)]


def test_bias_of_which_batch_normalization_leaves_nothing_did_get_a_gradient_but_need_not_move() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    with LoopRecorder() as recorder:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(UPDATES):
            optimizer.zero_grad()
            F.mse_loss(model(torch.randn(ROWS, 4)), torch.randn(ROWS, 2)).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert recorder.record().unmoved_with_gradient == ()
