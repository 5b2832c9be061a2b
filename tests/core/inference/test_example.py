"""The losses and likeliest tokens of one example."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.core.tiny import trainer
from tui_lab.core.inference.example import cell_losses
from tui_lab.data.dataset import IGNORED


def test_cell_losses_sum_to_the_loss_and_are_nan_where_ignored() -> None:
    training = trainer("model.dropout=0.5")
    batch = training.loader.batch(0)
    training.model.eval()
    total = 0.0
    for x, y in zip(batch.x, batch.y, strict=True):
        cells = cell_losses(training.model, x, y, k=3)
        assert (np.isnan(cells.losses) == (y == IGNORED)).all()
        total += float(np.nansum(cells.losses))
        logits = training.model(torch.from_numpy(x)[None])[0]
        assert cells.top.tolist() == logits.topk(3).indices.tolist()
        expected = F.softmax(logits, -1).gather(-1, torch.from_numpy(cells.top)).detach().numpy()
        np.testing.assert_allclose(cells.probabilities, expected, rtol=1e-5)
    whole = training.model.loss_sum(torch.from_numpy(batch.x), torch.from_numpy(batch.y))
    assert total == pytest.approx(whole.item(), rel=1e-5)


def test_top_k_beyond_the_vocabulary_gives_the_vocabulary() -> None:
    training = trainer()
    batch = training.loader.batch(0)
    assert cell_losses(training.model, batch.x[0], batch.y[0], k=50).top.shape == (5, 5)
