"""Data that are sorted by class are a fault where the loader does not shuffle them."""

from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader

from tests.core.doctor.checks.programs import V
from tui_lab.core.doctor.checks.data.class_order import sorted_classes
from tui_lab.core.doctor.loop.loaders import use_of
from tui_lab.core.doctor.loop.observed import Observed
from tui_lab.core.doctor.loop.record import LoopRecord

N = 400
SORTED = [n * 4 // N for n in range(N)]
MIXED = [n % 4 for n in range(N)]
STARTS_WITH_A_RUN = [0] * 100 + [n % 4 for n in range(N - 100)]
RARE = [0] * (N - 3) + [1] * 3


def codes(items: list[Any], **options: Any) -> list[str]:
    """Return what is found of a loop over a DataLoader of these items."""
    use = use_of(iter(DataLoader(items, batch_size=8, **options)))  # type: ignore[arg-type]
    record = LoopRecord(observed=Observed(training_loaders=(use,)))
    return [finding.code for finding in sorted_classes(record)]


def as_tuple(label: int) -> Any:
    return torch.zeros(V), label


def as_dict(label: int) -> Any:
    return {"input_ids": torch.zeros(V), "labels": torch.tensor(label)}


@pytest.mark.parametrize("item", [as_tuple, as_dict])
def test_sorted_classes_without_shuffling_are_found(item: Any) -> None:
    items = [item(label) for label in SORTED]
    assert codes(items) == ["not_shuffled"]
    assert codes(items, shuffle=True) == []


@pytest.mark.parametrize("labels", [MIXED, STARTS_WITH_A_RUN, RARE, [0] * N], ids=["mixed", "run", "rare", "one"])
def test_other_orders_are_healthy(labels: list[int]) -> None:
    assert codes([as_tuple(label) for label in labels]) == []


def test_targets_that_are_no_classes_are_not_compared() -> None:
    assert codes([(torch.zeros(V), float(label)) for label in SORTED]) == []
    assert codes([{"input_ids": torch.full((V,), label)} for label in SORTED]) == []


def test_sampler_of_the_user_has_an_order_of_its_own() -> None:
    class Balanced(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Any:
            return iter(range(N))

    use = use_of(iter(DataLoader([as_tuple(n) for n in SORTED], batch_sampler=BatchSampler(Balanced(), 8, False))))  # type: ignore[arg-type]
    record = LoopRecord(observed=Observed(training_loaders=(use,)))
    assert list(sorted_classes(record)) == []
