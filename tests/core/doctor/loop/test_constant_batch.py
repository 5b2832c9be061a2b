"""A loop that trains on the same rows in every update, although it has others."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tests.core.doctor.loop.judged import judged
from tui_lab.core.doctor.loop.recorder import LoopRecorder

N = 8
WIDTH = 4
Loop = Callable[[], object]


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


def fit(x: Tensor, model: nn.Module, *, validates: bool = True) -> None:
    """Train on the same rows in all updates."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        torch.autograd.backward(model(x).float().square().mean())
        optimizer.step()
    if validates:
        val_rows = x.flip(0) + 1
        with torch.no_grad():
            model(val_rows)


def of_a_slice() -> None:
    x_train = torch.randn(5 * N, WIDTH)
    fit(x_train[:N], nn.Linear(WIDTH, 2))


def of_drawn_rows() -> None:
    train_data = torch.randn(5 * N, WIDTH)
    fit(train_data[torch.randperm(5 * N)[:N]], nn.Linear(WIDTH, 2))


def of_windows() -> None:
    train_ids = torch.randint(50, (500,)).numpy()
    starts = torch.randint(400, (N,)).tolist()
    windows = torch.stack([torch.from_numpy(train_ids[start : start + WIDTH]) for start in starts])
    fit(windows, nn.Sequential(nn.Embedding(60, 3), nn.Linear(3, 2)))


def of_a_loader() -> None:
    loader = DataLoader(TensorDataset(torch.randn(5 * N, WIDTH)), batch_size=N)
    fit(next(iter(loader))[0], nn.Linear(WIDTH, 2))


@pytest.mark.parametrize("loop", [of_a_slice, of_drawn_rows, of_windows, of_a_loader])
def test_other_training_data_make_it_a_finding(loop: Loop) -> None:
    assert [(finding.code, finding.kind) for finding in judged(loop)] == [("constant_batch", "finding")]


def of_all_rows() -> None:
    x_train = torch.randn(N, WIDTH)
    fit(x_train, nn.Linear(WIDTH, 2))


def of_some_features() -> None:
    x_train = torch.randn(N, 3 * WIDTH)
    fit(x_train[:, :WIDTH], nn.Linear(WIDTH, 2))


def of_all_items() -> None:
    loader = DataLoader(TensorDataset(torch.randn(5 * N, WIDTH)), batch_size=N)
    fit(torch.cat([x for (x,) in loader]), nn.Linear(WIDTH, 2))


def of_all_data() -> None:
    """The rest of the data is for validation."""
    data = torch.randn(5 * N, WIDTH)
    fit(data[:N], nn.Linear(WIDTH, 2))


def without_validation() -> None:
    x_train = torch.randn(5 * N, WIDTH)
    fit(x_train[:N], nn.Linear(WIDTH, 2), validates=False)


@pytest.mark.parametrize("loop", [of_all_rows, of_some_features, of_all_items, of_all_data, without_validation])
def test_what_may_be_meant_is_a_hint(loop: Loop) -> None:
    assert [(finding.code, finding.kind) for finding in judged(loop)] == [("constant_batch", "hint")]


class Changed(Dataset[Tensor]):
    """Rows with noise, as an augmentation draws it; or rows that are drawn whatever the index is."""

    def __init__(self, *, draws: bool) -> None:
        self.rows = torch.randn(5 * N, WIDTH)
        self.draws = draws

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor:
        row = self.rows[int(torch.randint(len(self.rows), ()))] if self.draws else self.rows[index]
        return row + torch.randn(WIDTH)


def train_on(next_batch: Callable[[], Tensor], n_batches: int = 1) -> None:
    model = nn.Linear(WIDTH, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(6):
        optimizer.zero_grad()
        for _ in range(n_batches):
            torch.autograd.backward(model(next_batch()).square().mean())
        optimizer.step()


def of_restarted_iterators(*, shuffle: bool = False, draws: bool = False) -> None:
    loader = DataLoader(Changed(draws=draws), batch_size=N, shuffle=shuffle)
    train_on(lambda: next(iter(loader)))


def of_one_iterator() -> None:
    batches = iter(DataLoader(Changed(draws=False), batch_size=N // 2))
    train_on(lambda: next(batches))


def of_all_items_in_parts() -> None:
    loader = DataLoader(Changed(draws=False), batch_size=N)

    def batches() -> Iterator[Tensor]:
        while True:
            yield from loader

    parts = batches()
    train_on(lambda: next(parts), n_batches=len(loader))


def test_same_items_are_found_although_something_of_them_is_drawn() -> None:
    (finding,) = judged(of_restarted_iterators)
    assert (finding.code, finding.kind) == ("constant_batch", "finding")
    assert f"{N} items" in finding.evidence and "test_constant_batch.py:" in finding.location


@pytest.mark.parametrize(
    "loop",
    [
        partial(of_restarted_iterators, shuffle=True),
        partial(of_restarted_iterators, draws=True),
        of_one_iterator,
        of_all_items_in_parts,
    ],
    ids=["shuffled", "drawn whatever the index", "one iterator", "all items in parts"],
)
def test_other_items_or_rows_are_healthy(loop: Loop) -> None:
    assert judged(loop) == []
