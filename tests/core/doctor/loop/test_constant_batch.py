"""A loop that trains on the same rows in every update, although its training part has others."""

import pytest
import torch
from torch import Tensor, nn

from tui_lab.core.doctor.loop.recorder import LoopRecorder


def estimate_loss(model: nn.Module, rows: Tensor, split: str) -> None:
    assert split
    with torch.no_grad():
        model(rows)


@pytest.mark.parametrize(("split", "n"), [("train", 32), ("val", 0)])
def test_rows_of_the_training_part_are_told_apart(split: str, n: int) -> None:
    model = nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rows = torch.randn(8, 4)
    with LoopRecorder() as recorder:
        for _ in range(6):
            optimizer.zero_grad()
            torch.autograd.backward(model(rows).square().mean())
            optimizer.step()
        estimate_loss(model, torch.randn(32, 4), split)
    record = recorder.record()
    assert len(record.training_part_rows - set(record.updates[0].rows)) == n
