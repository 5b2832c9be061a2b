"""Models that take ids [T, B] and a loss of log-probabilities, as recurrent networks and torch's own examples do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch.loops import T, V, batch
from tests.core.watch.test_recorder import events_of, recorded_batch, recording
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.watch.batch.target_places import continues_along_first


class LogProbabilities(nn.Module):
    """Ids [T, B] → log-probabilities [T, B, V]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.recurrent, self.head = nn.Embedding(V, 8), nn.GRU(8, 8), nn.Linear(8, V)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.recurrent(self.embedding(x))[0])
        return logits.log_softmax(-1)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss(model(x.t()).view(-1, V), y.t().reshape(-1))


def test_rows_losses_and_vocabulary_are_those_of_the_sequences(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = batch(0)
    with recording(tmp_path) as record:
        record.recorder.batches.always = True
        model = LogProbabilities()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(2):
            torch.autograd.backward(loss_of(model, x, y))
            optimizer.step()
            with torch.no_grad():
                val_loss = loss_of(model, *batch(9))
        form = record.recorder.script.form
    recorded = recorded_batch(record)
    assert recorded.x is not None and recorded.y is not None and recorded.losses is not None
    assert (recorded.x == x.numpy()).all() and (recorded.y == y.numpy()).all() and recorded.n_rows == len(x)
    with torch.no_grad():
        log_probabilities = model(x.t()).transpose(0, 1)
    expected = -log_probabilities.gather(-1, y[..., None])[..., 0].numpy()
    np.testing.assert_allclose(recorded.losses, expected, rtol=1e-5)
    started = next(event for event in events_of(record) if isinstance(event, ev.Started))
    config = record.run.config()
    assert isinstance(config, ScriptConfig) and config.model.context == T and started.n_vocab == V
    assert form is not None
    torch.testing.assert_close(form.forward(model)(x), log_probabilities)
    evaluated = [event for event in events_of(record) if isinstance(event, ev.Evaluated)]
    assert [event.perplexity for event in evaluated] == [pytest.approx(float(val_loss.exp()), rel=1e-5)] * 2


def test_ids_of_a_batch_first_model_are_not_turned() -> None:
    x, y = batch(0)
    assert continues_along_first(x.t(), y.t()) and not continues_along_first(x, y)
