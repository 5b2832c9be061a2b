"""A model that returns the log-probabilities of its targets instead of logits, as those of TRL's trainers do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tui_lab
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch
from tui_lab.core.watch.batch.token_log_probs import token_log_probs
from tui_lab.data.dataset import IGNORED

V, B, T = 11, 3, 6


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 8)
        self.head = nn.Linear(8, V)

    def forward(self, input_ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        log_probs = self.head(self.embedding(input_ids))[:, :-1].log_softmax(-1)
        targets = labels[:, 1:]
        of_targets = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
        return {"log_probs": of_targets.masked_fill(targets < 0, 0.0)}


def train(folder: Path, labels: Tensor, n_micro_batches: int) -> tuple[LanguageModel, RecordedBatch]:
    """Make one step without a change of the weights, and return what is recorded of it."""
    torch.manual_seed(0)
    x = torch.randint(V, (B, T))
    with tui_lab.watch(out=folder / "run") as run:
        model = LanguageModel()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(2):
            for number in range(n_micro_batches):
                (-model(input_ids=x.roll(number), labels=labels)["log_probs"]).mean().backward()
            optimizer.step()
    assert run.path is not None
    batch = read_batch(run.path)
    assert batch is not None
    return model, batch


@pytest.mark.parametrize("n_micro_batches", [1, 2])
def test_losses_of_the_targets_are_recorded(n_micro_batches: int, tmp_path: Path) -> None:
    labels = torch.randint(V, (B, T))
    labels[:, :3] = -100
    model, batch = train(tmp_path, labels, n_micro_batches)
    assert batch.x is not None and batch.y is not None and batch.losses is not None
    assert batch.y.tolist() == [[IGNORED, IGNORED, *row[3:], IGNORED] for row in labels.tolist()]
    expected = -model(torch.from_numpy(batch.x), labels)["log_probs"].detach().numpy()
    assert np.isnan(batch.losses).tolist() == (batch.y == IGNORED).tolist()
    assert np.allclose(batch.losses[:, 2:-1], expected[:, 2:], atol=1e-6)
    assert batch.top is None


@pytest.mark.parametrize(
    "output", [torch.zeros(B, T - 1), {}, {"log_probs": 1.0}, {"log_probs": torch.zeros(B, T)}, [torch.zeros(B, T - 1)]]
)
def test_other_outputs_have_none(output: object) -> None:
    assert token_log_probs(output, torch.zeros(B, T, dtype=torch.long)) is None
    assert token_log_probs({"log_probs": torch.zeros(B, T - 1)}, None) is None
