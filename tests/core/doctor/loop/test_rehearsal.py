"""A rehearsal makes real updates of a copy, and what the update keeps between its calls is as before afterwards."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.core.doctor.test_checks import Small, case, codes, pair
from tui_lab import examine
from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.loop.rehearsal import UPDATES
from tui_lab.core.doctor.program.case_target import target_from_case
from tui_lab.core.doctor.program.update_state import UpdateState

MICRO_BATCHES = 4
CALLS = [0]


class Counter:
    def __init__(self) -> None:
        self.n = 0
        self.rates: list[float] = []


def counting(counter: Counter, rate: Callable[[int], float]) -> Callable[..., None]:
    """An update that counts its micro-batches in an object, and its calls in a global list."""

    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        model.train()
        CALLS[0] += 1
        for micro_x, micro_y in zip(x.chunk(MICRO_BATCHES), y.chunk(MICRO_BATCHES), strict=True):
            loss = nn.functional.cross_entropy(model(micro_x).flatten(0, 1), micro_y.flatten())
            (loss / MICRO_BATCHES).backward()  # type: ignore[no-untyped-call]
            counter.n += 1
        optimizers[0].param_groups[0]["lr"] = rate(counter.n)
        counter.rates.append(rate(counter.n))
        optimizers[0].step()
        optimizers[0].zero_grad()

    return update


def test_rehearsal_is_made_once_on_a_copy_with_full_batches() -> None:
    model = Small()
    before = [p.clone() for p in model.parameters()]
    target = target_from_case(case(model))
    record = target.loop
    assert record is target.loop and record.is_rehearsal and 3 <= len(record.updates) <= UPDATES
    assert len(record.updates[0].rows) == len(pair()[0]) and record.measurements
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_program_without_an_optimizer_cannot_be_rehearsed() -> None:
    with pytest.raises(NotJudged):
        _ = target_from_case(case(optimizer=None)).loop


def test_update_that_raises_does_so_each_time_and_runs_once() -> None:
    calls: list[int] = []

    def update(*_: Any) -> None:
        calls.append(1)
        raise OSError("the file is gone")

    target = target_from_case(case(update=update))
    for _ in range(2):
        with pytest.raises(OSError):
            _ = target.loop
    assert len(calls) == 1


def test_schedule_that_counts_micro_batches_is_found_and_its_twin_is_healthy() -> None:
    def examined(total: int) -> list[str]:
        counter = Counter()
        model = Small()
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        update = counting(counter, lambda n: 3e-3 * (1 - n / total))
        report = examine(case(model, optimizer=optimizer, update=update))
        assert counter.n == 0 and counter.rates == [] and CALLS == [0]
        assert optimizer.param_groups[0]["lr"] == 3e-3
        return codes(report)

    assert examined(20) == ["lr_schedule"]
    assert examined(100_000) == []


def test_rehearsal_ends_with_a_schedule_that_refuses_to_go_on() -> None:
    model = Small()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10)

    def update(model: nn.Module, optimizers: Sequence[Optimizer], x: Tensor, y: Tensor) -> None:
        optimizers[0].zero_grad()
        nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()  # type: ignore[no-untyped-call]
        optimizers[0].step()
        scheduler.step()

    record = target_from_case(case(model, optimizer=optimizer, update=update)).loop
    assert len(record.updates) == 11 and any("schedule" in note for note in record.notes)


def test_state_in_closures_objects_and_containers_is_restored() -> None:
    n_calls = 0
    counter = Counter()
    seen: set[int] = set()
    table: dict[str, Any] = {"inner": [1]}
    average = torch.zeros(3)
    generator = torch.Generator().manual_seed(0)

    def update() -> float:
        nonlocal n_calls
        n_calls += 1
        counter.n += 1
        seen.add(n_calls)
        table["inner"].append(2)
        table["new"] = n_calls
        average.add_(1)
        return float(torch.rand((), generator=generator))

    state = UpdateState([update])
    first = update()
    assert update() != first
    state.restore()
    assert (n_calls, counter.n, seen, table, float(average.sum())) == (0, 0, set(), {"inner": [1]}, 0.0)
    assert update() == first
