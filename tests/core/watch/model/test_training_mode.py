"""Calls of the model with gradients that are not for training: text and validation losses without torch.no_grad()."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_lab
from tests.core.watch.loops import closed_events
from tui_lab.core import events as ev
from tui_lab.core.watch.batch.recorded_batch import read_batch

B, T = 2, 3
X = torch.arange(B * T).reshape(B, T)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(7, 4), nn.Dropout(0.5), nn.Linear(4, 7))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class Script:
    """Steps on X, which ask for no mode: the mode is what the test has set."""

    def __init__(self) -> None:
        self.model = Tokens()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)

    def loss(self, x: Tensor) -> Tensor:
        return F.cross_entropy(self.model(x).flatten(0, 1), x.flatten())

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.loss(X).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def generate(self, n: int = 4) -> None:
        row = X[:1, :1]
        for _ in range(n):
            row = torch.cat((row, self.model(row)[:, -1:].argmax(dim=-1)), dim=1)


def tokens_of_steps(events: list[ev.Event]) -> list[int]:
    """The tokens of each step."""
    totals = [0, *(event.tokens for event in events if isinstance(event, ev.StepDone))]
    return [after - before for before, after in zip(totals, totals[1:], strict=False)]


def evaluations(events: list[ev.Event]) -> dict[int, float]:
    """The validation loss after each evaluation's step."""
    return {event.step: event.val_loss for event in events if isinstance(event, ev.Evaluated)}


def test_text_generated_with_gradients_in_evaluation_mode_is_no_training(run: tui_lab.WatchedRun) -> None:
    script = Script()
    for _ in range(3):
        script.model.train()
        script.step()
        script.model.eval()
        script.generate()
    events = closed_events(run)
    assert tokens_of_steps(events) == [B * T] * 3
    assert not evaluations(events) and run.path is not None
    batch = read_batch(run.path)
    assert batch is not None and batch.x is not None and batch.x.shape == (B, T)


def test_validation_loss_with_gradients_in_evaluation_mode_is_recorded(run: tui_lab.WatchedRun) -> None:
    script = Script()
    val_losses = {}
    for step in (1, 2, 3):
        script.model.train()
        script.step()
        script.model.eval()
        val_losses[step] = script.loss(X).item()
    events = closed_events(run)
    assert tokens_of_steps(events) == [B * T] * 3
    assert evaluations(events) == pytest.approx(val_losses)


def test_training_that_stays_in_evaluation_mode_after_a_validation_is_recorded(run: tui_lab.WatchedRun) -> None:
    script = Script()
    script.step()
    script.step()
    script.model.eval()
    with torch.no_grad():
        val_loss = script.loss(X).item()
    script.step()
    script.step()
    events = closed_events(run)
    assert tokens_of_steps(events) == [B * T] * 4
    assert evaluations(events) == pytest.approx({2: val_loss})


def test_training_in_evaluation_mode_is_no_evaluation(run: tui_lab.WatchedRun) -> None:
    script = Script()
    script.model.eval()
    for _ in range(3):
        script.step()
    events = closed_events(run)
    assert tokens_of_steps(events) == [B * T] * 3
    assert not evaluations(events)
