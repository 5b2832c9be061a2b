"""Training loops as users write them, for the tests of the recorder. Each returns its model and the losses it saw."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab import WatchedRun
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run

V = 11
T = 6
STEPS = 6


class TinyModel(nn.Module):
    """Token ids [B, T] → logits [B, T, V], and the loss if there are targets."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 8)
        self.hidden = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 8))
        self.head = nn.Linear(8, V)

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.head(self.hidden(self.embedding(x)))
        return logits, None if y is None else F.cross_entropy(logits.flatten(0, 1), y.flatten())


@dataclass
class Trained:
    """What a loop saw itself. losses: the mean of the micro-batches of each step; lrs: as the scripts print them."""

    model: nn.Module
    losses: list[float] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


def batch(step: int, rows: int = 4) -> tuple[Tensor, Tensor]:
    """The batch of a step: x and the next tokens."""
    ids = torch.randint(V, (rows, T + 1), generator=torch.Generator().manual_seed(step))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def start() -> TinyModel:
    torch.manual_seed(0)
    return TinyModel()


def without_tokens() -> Iterator[int]:
    """Train a model of numbers for three steps; yield after each."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(3):
        torch.autograd.backward(F.mse_loss(model(torch.ones(5, 3)), torch.zeros(5, 2)))
        optimizer.step()
        yield step


def plain(steps: int = STEPS) -> Trained:
    trained = Trained(model := start())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        trained.losses.append(loss.item())
        trained.lrs.append(1e-2)
    return trained


def clipping_with_schedule() -> Trained:
    trained = Trained(model := start())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    for step in range(STEPS):
        optimizer.zero_grad()
        _, loss = model(*batch(step))
        loss.backward()
        trained.norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.1).item())
        trained.lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
        trained.losses.append(loss.item())
    return trained


def accumulating(*, divides: bool) -> Trained:
    trained = Trained(model := start())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        total = 0.0
        for part in range(3):
            _, loss = model(*batch(10 * step + part))
            total += loss.item()
            (loss / 3 if divides else loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        trained.losses.append(total / 3)
    return trained


def scaled_amp() -> Trained:
    trained = Trained(model := start())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(STEPS):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _, loss = model(*batch(step))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        trained.norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0).item())
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        trained.losses.append(loss.item())
    return trained


def two_optimizers() -> Trained:
    """Two optimizers for two parts of one model, after one backward pass, as with Muon and AdamW."""
    trained = Trained(model := start())
    parts = [list(model.hidden.parameters()), [*model.embedding.parameters(), *model.head.parameters()]]
    optimizers = [torch.optim.SGD(parts[0], lr=0.1), torch.optim.AdamW(parts[1], lr=1e-2)]
    for step in range(STEPS):
        _, loss = model(*batch(step))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        trained.losses.append(loss.item())
    return trained


def two_losses() -> Trained:
    """Two optimizers that take turns, each with a loss of its own, as a GAN has."""
    trained = Trained(model := start())
    other = nn.Linear(4, 1)
    first = torch.optim.SGD(model.parameters(), lr=0.1)
    second = torch.optim.SGD(other.parameters(), lr=0.1)
    for step in range(STEPS):
        _, loss = model(*batch(step))
        loss.backward()
        first.step()
        first.zero_grad()
        other_loss = F.mse_loss(other(torch.ones(2, 4)), torch.zeros(2, 1))
        torch.autograd.backward(other_loss)
        second.step()
        second.zero_grad()
        trained.losses.append(loss.item())
    return trained


def lbfgs() -> Trained:
    trained = Trained(model := start())
    model.eval()  # Dropout would make the line search see another function at each call.
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)

    for step in range(STEPS):

        def closure(step: int = step) -> float:
            optimizer.zero_grad()
            _, loss = model(*batch(step))
            loss.backward()
            return float(loss.detach())

        trained.losses.append(float(optimizer.step(closure)))  # type: ignore[no-untyped-call]
    return trained


def compiled() -> Trained:
    trained = Trained(inner := start())
    model = torch.compile(inner, backend="eager")
    optimizer = torch.optim.AdamW(inner.parameters(), lr=1e-2)
    for step in range(STEPS):
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        trained.losses.append(loss.item())
    return trained


LOOPS: dict[str, Callable[[], Trained]] = {
    "plain": plain,
    "clipping_with_schedule": clipping_with_schedule,
    "accumulating_divided": lambda: accumulating(divides=True),
    "accumulating_undivided": lambda: accumulating(divides=False),
    "scaled_amp": scaled_amp,
    "two_optimizers": two_optimizers,
    "two_losses": two_losses,
    "lbfgs": lbfgs,
    "compiled": compiled,
}


def closed_events(run: WatchedRun) -> list[ev.Event]:
    """End a run, and return all its events."""
    run.close()
    assert run.path is not None
    return list(Run(run.path).events())
