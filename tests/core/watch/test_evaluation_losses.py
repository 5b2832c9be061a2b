"""Which loss counts as the validation loss of a script, and of which step it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_lab
from tui_lab.core import events as ev


class LossInside(nn.Module):
    """Returns logits and, given targets, a loss that is a sum over `divisor`, as Hugging Face models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        logits = self.layers(x)
        if y is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum") / y.numel()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tui_lab.WatchedRun]:
    with tui_lab.watch(out=tmp_path / "run") as run:
        yield run


def events(run: tui_lab.WatchedRun) -> list[ev.Event]:
    run.close()
    assert run.path is not None
    lines = (run.path / "events.jsonl").read_text("utf-8").splitlines()
    return [ev.parse_event(line) for line in lines]


def evaluations(run: tui_lab.WatchedRun) -> list[ev.Evaluated]:
    return [event for event in events(run) if isinstance(event, ev.Evaluated)]


def step(model: LossInside, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    loss = model(x, x)[1]
    loss.backward()
    optimizer.step()


def test_loss_that_the_model_returns_counts(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        returned = model(x, x)[1].item()
    step(model, optimizer, x)
    (evaluated,) = evaluations(run)
    assert (evaluated.step, evaluated.examples) == (1, 2)
    assert evaluated.val_loss == pytest.approx(returned, rel=1e-6)


def test_loss_computed_from_the_logits_counts_once(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    step(model, optimizer, x)
    with torch.no_grad():
        losses = [F.cross_entropy(model(x)[0].flatten(0, 1), x.flatten()).item() for x in (x, x.flip(0))]
    (evaluated,) = evaluations(run)
    assert (evaluated.step, evaluated.examples) == (1, 4)
    assert evaluated.val_loss == pytest.approx(sum(losses) / 2, rel=1e-6)


def test_val_loss_that_the_script_logs_replaces_the_observed_one(run: tui_lab.WatchedRun) -> None:
    model = LossInside()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.arange(6).reshape(2, 3)
    for _ in range(2):
        step(model, optimizer, x)
        with torch.no_grad():
            model(x, x)
        run.log(val_loss=3.5, accuracy=0.5)
    all_events = events(run)
    evaluated = [event for event in all_events if isinstance(event, ev.Evaluated)]
    assert [(event.step, event.val_loss, event.examples) for event in evaluated] == [(1, 3.5, 2), (2, 3.5, 2)]
    kinds = [(event.kind, event.step) for event in all_events]
    assert kinds.index(("step", 2)) < kinds.index(("logged", 2))
    assert [event.step for event in all_events if isinstance(event, ev.Logged)] == [1, 2]
