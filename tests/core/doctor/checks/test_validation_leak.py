"""Validation data sets whose items the training reads, too, and data sets that only resemble each other."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset, random_split

from tests.core.doctor.checks.programs import results
from tui_lab.core.doctor.checks.data import validation_leak
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target

Items = Dataset[Any]
LEAKED = [("finding", "leaked_validation")]
WIDTH = 3


def evaluate(model: nn.Module, loader: DataLoader[Any]) -> None:
    with torch.no_grad():
        for x, _ in loader:
            model(x)


def outcome(
    training: Items, validation: Items, *, sampler: Any = None, val_sampler: Any = None, passes_loader: bool = True
) -> list[tuple[str, str]]:
    """Train on one data set for two epochs with evaluations between the updates, and judge the record."""
    model = nn.Linear(WIDTH, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train_loader = DataLoader(training, 16, shuffle=sampler is None, sampler=sampler)
    val_loader = DataLoader(validation, 16, sampler=val_sampler)

    @torch.no_grad()
    def accuracy() -> float:
        return sum(float((model(x).argmax(dim=1) == y).sum()) for x, y in val_loader)

    with LoopRecorder() as recorder:
        for _ in range(2):
            for step, (x, y) in enumerate(train_loader):
                if step % 2 == 0:
                    evaluate(model, val_loader) if passes_loader else accuracy()
                optimizer.zero_grad()
                torch.autograd.backward(F.cross_entropy(model(x), y))
                optimizer.step()

    def unknown(*_: object) -> Any:
        raise AssertionError("the check calls the program")

    target = Target(
        model=model,
        optimizers=[optimizer],
        batch=unknown,
        forward=unknown,
        loss_function=unknown,
        update=unknown,
        ignored=-100,
        tokens=None,
        record=recorder.record(),
    )
    return results(validation_leak.check, target)


def items(n: int, seed: int, n_values: int = 10_000) -> TensorDataset:
    """Return items of which few differ if there are few values."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, n_values, (n, WIDTH), generator=generator).float()
    return TensorDataset(x, (x.sum(dim=1) % 2).long())


class Drawn(Dataset[tuple[Tensor, Tensor]]):
    """Draws another item at each read."""

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.randn(WIDTH), torch.tensor(index % 2)


def test_training_items_in_the_validation_data_set() -> None:
    assert outcome(items(128, seed=0), Subset(items(128, seed=0), torch.randperm(128)[:64].tolist())) == LEAKED
    assert outcome(items(128, seed=0), items(64, seed=1)) == []


def test_items_of_few_values_leak_only_in_the_order_of_the_training_items() -> None:
    assert outcome(items(128, seed=0, n_values=3), Subset(items(128, seed=0, n_values=3), range(32, 96))) == LEAKED
    assert outcome(items(128, seed=0, n_values=3), items(64, seed=1, n_values=3)) == []


def test_subset_of_the_data_set_that_is_trained_on() -> None:
    every = items(128, seed=0, n_values=3)
    assert outcome(every, Subset(every, range(0, 128, 4))) == LEAKED
    assert outcome(*random_split(every, [96, 32])) == []


def test_validation_loader_that_only_its_name_tells() -> None:
    every = items(128, seed=0)
    assert outcome(every, Subset(every, range(0, 128, 4)), passes_loader=False) == LEAKED
    assert outcome(*random_split(every, [96, 32]), passes_loader=False) == []


def test_samplers_that_split_one_data_set() -> None:
    every = items(128, seed=0)
    sampler = SubsetRandomSampler(range(96))
    assert outcome(every, every, sampler=sampler, val_sampler=SubsetRandomSampler(range(96, 128))) == []
    assert outcome(every, every, sampler=sampler, val_sampler=SubsetRandomSampler(range(32))) == LEAKED


def test_periodic_items_are_no_leak() -> None:
    x = torch.arange(7.0).repeat(32)[:200, None].expand(-1, WIDTH)
    every = TensorDataset(x, torch.zeros(len(x), dtype=torch.long))
    copied = TensorDataset(x.clone(), torch.zeros(len(x), dtype=torch.long))
    assert outcome(Subset(every, range(150)), Subset(copied, range(150, 200))) == []


def test_items_that_are_drawn_at_each_read_are_not_compared() -> None:
    drawn = Drawn()
    assert outcome(drawn, drawn) == [("not judged", "")]
