"""Healthy loops in the styles of adversarial, reinforcement and sequence learning: no finding and no hint."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from tests.core.doctor.loop.judged import judged

STEPS = 15


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def adversarial_networks() -> None:
    generator = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))
    critic = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 1))
    of_generator = torch.optim.Adam(generator.parameters(), 2e-4)
    of_critic = torch.optim.Adam(critic.parameters(), 2e-4)
    criterion = nn.BCEWithLogitsLoss()
    for _ in range(STEPS):
        critic.zero_grad()
        backward(criterion(critic(torch.randn(16, 2) + 3), torch.ones(16, 1)))
        fake = generator(torch.randn(16, 4))
        backward(criterion(critic(fake.detach()), torch.zeros(16, 1)))
        of_critic.step()
        generator.zero_grad()
        backward(criterion(critic(fake), torch.ones(16, 1)))
        of_generator.step()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.gru = nn.GRU(8, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        state: Tensor = self.gru(F.dropout(self.embedding(x), 0.1, self.training))[1]
        return state


class Decoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        out, state = self.gru(self.embedding(x), state)
        return F.log_softmax(self.head(out[:, 0]), -1), state


def encoder_and_decoder_word_by_word() -> None:
    encoder, decoder = Encoder(), Decoder()
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.01) for module in (encoder, decoder)]
    for _ in range(STEPS):
        x, y = torch.randint(10, (1, 6)), torch.randint(10, (1, 5))
        for optimizer in optimizers:
            optimizer.zero_grad()
        state, token = encoder(x), torch.zeros(1, 1, dtype=torch.long)
        losses = []
        for position in range(5):
            output, state = decoder(token, state)
            losses.append(F.nll_loss(output, y[:, position]))
            token = y[:, position : position + 1]
        backward(torch.stack(losses).sum())
        for optimizer in optimizers:
            optimizer.step()


def policy_gradient() -> None:
    """Actions are drawn without gradients in training mode, on rows that are trained on afterwards."""
    policy = nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.1), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    for _ in range(4):
        observations = torch.randn(64, 4)
        with torch.no_grad():
            actions = torch.distributions.Categorical(logits=policy(observations)).sample()  # type: ignore[no-untyped-call]
        for rows in torch.randperm(64).split(16):  # type: ignore[no-untyped-call]
            log_probability = policy(observations[rows]).log_softmax(-1).gather(1, actions[rows, None])
            optimizer.zero_grad()
            backward(-(log_probability * torch.randn(16, 1)).mean())
            nn.utils.clip_grad_norm_(policy.parameters(), 0.5)
            optimizer.step()


def target_network() -> None:
    network = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2))
    frozen = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    for _ in range(STEPS):
        values = network(torch.randn(16, 4)).gather(1, torch.randint(2, (16, 1)))
        with torch.no_grad():
            targets = frozen(torch.randn(16, 4)).max(1).values
        optimizer.zero_grad()
        backward(F.smooth_l1_loss(values[:, 0], targets))
        nn.utils.clip_grad_value_(network.parameters(), 100)
        optimizer.step()


def averaged_weights() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        backward(F.cross_entropy(model(torch.randn(8, 8)), torch.randint(2, (8,))))
        optimizer.step()
        average.update_parameters(model)
        if step % 5 == 4:
            average.eval()
            with torch.no_grad():
                F.cross_entropy(average(torch.randn(8, 8)), torch.randint(2, (8,)))


def warm_up_then_cosine() -> None:
    model = nn.Linear(8, 2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    parts = [lr_scheduler.LinearLR(optimizer, 0.01, total_iters=10), lr_scheduler.CosineAnnealingLR(optimizer, 40)]
    scheduler = lr_scheduler.SequentialLR(optimizer, parts, [10])
    for _ in range(50):
        optimizer.zero_grad()
        backward(F.cross_entropy(model(torch.randn(8, 8)), torch.randint(2, (8,))))
        optimizer.step()
        scheduler.step()


def scaler_that_skips_its_first_steps() -> None:
    model = nn.Linear(8, 2)
    optimizer = torch.optim.SGD(model.parameters(), 1e-5)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda n: 1.0)
    for _ in range(30):
        optimizer.zero_grad()
        loss = 100 * F.cross_entropy(model(10 * torch.randn(8, 8)), torch.randint(2, (8,)))
        backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()


def one_linear_layer_of_a_frozen_model() -> None:
    body, head = nn.Linear(8, 16).requires_grad_(requires_grad=False), nn.Linear(16, 3)
    model = nn.Sequential(body, head)
    optimizer = torch.optim.SGD(head.parameters(), 0.1, momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        backward(F.cross_entropy(model(torch.randn(8, 8)), torch.randint(3, (8,))))
        optimizer.step()


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize(
    "loop",
    [
        adversarial_networks,
        encoder_and_decoder_word_by_word,
        policy_gradient,
        target_network,
        averaged_weights,
        warm_up_then_cosine,
        scaler_that_skips_its_first_steps,
        one_linear_layer_of_a_frozen_model,
    ],
)
def test_healthy_loop_has_neither_findings_nor_hints(loop: Callable[[], None]) -> None:
    torch.manual_seed(0)
    assert judged(loop) == []
