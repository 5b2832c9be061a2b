"""Which targets of a batch are recorded: those that the loss function got, at the positions that they belong to."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_lab
from tui_lab.core import events as ev
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch
from tui_lab.data.dataset import IGNORED

V, B, T = 11, 3, 6


class Model(nn.Module):
    """Logits [B, T, V] of ids [B, T]; a further argument is added, as the segments of BERT are."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 8)
        self.head = nn.Linear(8, V)

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        hidden = self.embedding(x)
        logits: Tensor = self.head(hidden if segments is None else hidden + segments[..., None])
        return logits


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model()


def recorded(run: tui_lab.WatchedRun) -> RecordedBatch:
    run.close()
    assert run.path is not None
    batch = read_batch(run.path)
    assert batch is not None
    return batch


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("ignored", [-100, 0])
def test_flat_targets_are_recorded_in_the_shape_of_the_ids(run: tui_lab.WatchedRun, model: Model, ignored: int) -> None:
    optimizer = optimizer_of(model)
    x = torch.randint(1, V, (B, T))
    y = x[:, 1:].clone()
    y[:, :2] = ignored
    for _ in range(2):
        logits = model(x)[:, :-1].flatten(0, 1)
        update(optimizer, F.cross_entropy(logits, y.flatten(), ignore_index=ignored))
    batch = recorded(run)
    assert (batch.x_shape, batch.y_shape) == (f"[{B}, {T}] int64", f"[{B}, {T - 1}] int64")
    assert batch.ignore_index == ignored and batch.y is not None and (batch.y[:, :2] == IGNORED).all()


def test_loss_that_is_averaged_later_shows_the_losses_of_positions(run: tui_lab.WatchedRun, model: Model) -> None:
    optimizer = optimizer_of(model)
    x, y = torch.randint(V, (2, B, T))
    for _ in range(3):
        each = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none")
        update(optimizer, each.mean())
    batch = recorded(run)
    assert batch.y is not None and batch.losses is not None
    assert np.array_equal(batch.y, y.numpy()) and batch.losses.shape == (B, T)
    assert run.path is not None
    events = map(ev.parse_event, (run.path / "events.jsonl").read_text("utf-8").splitlines())
    assert [event.n_vocab for event in events if isinstance(event, ev.Started)] == [V]


def test_further_ids_are_no_targets_where_the_loss_got_others(run: tui_lab.WatchedRun, model: Model) -> None:
    """As a masked language model: the loss has some positions only."""
    optimizer = optimizer_of(model)
    x, segments = torch.randint(V, (B, T)), torch.randint(2, (B, T))
    positions, y = torch.tensor([1, 4]), torch.randint(V, (B, 2))
    for _ in range(3):
        update(optimizer, F.cross_entropy(model(x, segments)[:, positions].flatten(0, 1), y.flatten()))
    batch = recorded(run)
    assert batch.x is not None and batch.y is None and batch.y_shape == f"[{B * 2}] int64"


class Masked(Model):
    """Logits [B, n, V] at the masked positions [B, n]."""

    def forward(self, x: Tensor, segments: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        assert positions is not None
        logits = super().forward(x, segments)
        return logits.gather(1, positions[..., None].expand(-1, -1, V))


@pytest.mark.parametrize("is_flat", [False, True])
def test_targets_of_masked_positions_are_shown_there(run: tui_lab.WatchedRun, *, is_flat: bool) -> None:
    model = Masked()
    optimizer = optimizer_of(model)
    x, segments = torch.randint(1, V - 1, (B, T)), torch.randint(2, (B, T))
    positions, y = torch.tensor([[1, 4], [2, 5], [0, 0]]), torch.tensor([[3, 4], [5, 6], [0, 0]])
    x[:2] = x[:2].scatter(1, positions[:2], V - 1)
    for _ in range(3):
        logits = model(x, segments, positions)
        if is_flat:
            update(optimizer, F.cross_entropy(logits.flatten(0, 1), y.flatten()))
        else:
            update(optimizer, F.cross_entropy(logits.transpose(1, 2), y, reduction="none").mean())
    batch = recorded(run)
    expected = np.full((B, T), IGNORED)
    expected[0, [1, 4]] = 3, 4
    expected[1, [2, 5]] = 5, 6
    assert batch.y is not None and batch.losses is not None and np.array_equal(batch.y, expected)
    assert np.array_equal(np.isnan(batch.losses), expected == IGNORED)
    assert batch.y_shape == ("[6] int64" if is_flat else "[3, 2] int64")


@pytest.mark.parametrize("is_time_first", [False, True])
@pytest.mark.parametrize("n", [1, 3])
def test_targets_of_the_last_positions_are_shown_there(
    run: tui_lab.WatchedRun, model: Model, n: int, is_time_first: bool
) -> None:
    optimizer = optimizer_of(model)
    tokens = torch.randint(V, (B, T + 1))
    x, y = tokens[:, :-1], tokens[:, -n:]
    for _ in range(3):
        logits = model(x.t() if is_time_first else x)
        last = logits[-n:] if is_time_first else logits[:, -n:]
        update(optimizer, F.cross_entropy(last.flatten(0, 1), (y.t() if is_time_first else y).flatten()))
    batch = recorded(run)
    assert batch.x is not None and batch.y is not None and batch.losses is not None
    assert np.array_equal(batch.x, x.numpy())
    assert np.array_equal(batch.y[:, -n:], y.numpy()) and (batch.y[:, :-n] == IGNORED).all()
    assert (np.isnan(batch.losses).sum(axis=1) == T - n).all()


def test_class_of_a_row_is_no_target_of_its_last_position(run: tui_lab.WatchedRun, model: Model) -> None:
    optimizer = optimizer_of(model)
    x = torch.arange(B * T).reshape(B, T) % V
    for _ in range(3):
        update(optimizer, F.cross_entropy(model(x).mean(1)[:, :2], torch.randint(2, (B,))))
    batch = recorded(run)
    assert batch.y is None and batch.losses is None
