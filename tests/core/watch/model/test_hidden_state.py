"""Recurrent models that take a hidden state generate text: with a fresh state for all tokens so far."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch.loops import V, batch
from tui_lab.core import commands as cmd
from tui_lab.core.watch.answers import answer_files as answers
from tui_lab.core.watch.model.hidden_state import hidden_state
from tui_lab.core.watch.recording import Recording

LAYERS, D = 2, 8
N_TOKENS = 9
"""More than the rows of a batch have."""


class Recurrent(nn.Module):
    """Ids [T, B] and a state → logits [T * B, V] and the next state, as in torch's own example."""

    def __init__(self, kind: Callable[[int, int, int], nn.Module] = nn.LSTM) -> None:
        super().__init__()
        self.encoder = nn.Embedding(V, D)
        self.rnn = kind(D, D, LAYERS)
        self.decoder = nn.Linear(D, V)

    def forward(self, input: Tensor, hidden: Any) -> tuple[Tensor, Any]:
        output, hidden = self.rnn(self.encoder(input), hidden)
        return self.decoder(output).view(-1, V), hidden


class WithFirstState(Recurrent):
    """Its first state is not zero."""

    def init_hidden(self, n_rows: int) -> Any:
        return torch.ones(LAYERS, n_rows, D), torch.ones(LAYERS, n_rows, D)


class Masked(nn.Module):
    """Its second argument is not a state."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(V, D), nn.Linear(D, V)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(x) * mask)
        return logits


def generated(folder: Path, model: nn.Module, second: Any, *, time_first: bool = True) -> answers.GenerationAnswer:
    """What is generated after two steps in which the model was given `second`, too."""
    recording = Recording.start("test", ["test.py"], folder / "run")
    command = cmd.Generate("g-1", "1 2", max_new_tokens=N_TOKENS, temperature=0.0)
    recording.boundary.control.commands.put(command)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    for step in range(2):
        x, y = batch(step)
        output = model(x.t() if time_first else x, second)
        logits = output[0] if isinstance(output, tuple) else output
        torch.autograd.backward(F.cross_entropy(logits.view(-1, V), (y.t() if time_first else y).reshape(-1)))
        optimizer.step()
    thread = recording.answering.thread
    if thread is not None:
        thread.join()
    recording.end()
    return answers.read_generation(recording.run.path, "g-1")


def carried(model: Recurrent, hidden: Any) -> list[int]:
    """The likeliest tokens, with a state that is carried from token to token."""
    tokens = [1, 2]
    with torch.no_grad():
        logits, hidden = model(torch.tensor([[1], [2]]), hidden)
        for _ in range(N_TOKENS):
            tokens.append(int(logits[-1].argmax()))
            logits, hidden = model(torch.tensor([[tokens[-1]]]), hidden)
    return tokens[2:]


def zeros(n_rows: int) -> Tensor:
    return torch.zeros(LAYERS, n_rows, D)


@pytest.mark.parametrize("kind", ["lstm", "gru", "own first state"])
def test_tokens_are_those_of_a_state_that_is_carried_on(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = {"lstm": Recurrent(), "gru": Recurrent(nn.GRU), "own first state": WithFirstState()}[kind]
    second = zeros(4) if kind == "gru" else (zeros(4), zeros(4))
    answer = generated(tmp_path, model, second)
    assert answer.error is None and answer.done
    first = zeros(1) if kind == "gru" else (zeros(1), zeros(1))
    if isinstance(model, WithFirstState):
        first = model.init_hidden(1)
    assert len(answer.tokens) == N_TOKENS
    assert carried(model, first) == [token.token for token in answer.tokens]


@pytest.mark.parametrize("mask", [torch.ones(4, 6, 1), torch.ones(4, 1, 1)])
def test_argument_that_is_no_state_is_named(mask: Tensor, tmp_path: Path) -> None:
    answer = generated(tmp_path, Masked(), mask, time_first=False)
    assert answer.error is not None and "state" in answer.error and "mask" in answer.error


def test_argument_is_a_state_only_if_it_is_the_only_one() -> None:
    x = torch.zeros(6, 4, dtype=torch.int64)
    found = hidden_state((x,), {"hidden": (zeros(4), zeros(4))}, x)
    assert found is not None and found.place == "hidden"
    assert hidden_state((x, zeros(4), zeros(4)), {}, x) is None
    assert hidden_state((x, None, 0.5), {}, x) is None
