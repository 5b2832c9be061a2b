"""A script that loads a checkpoint: its steps go on with the count of its optimizer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tui_lab
from tests.core.watch.loops import TinyModel, batch
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.optimizer.optimizers import steps_before
from tui_lab.core.watch.recording import Recording
from tui_lab.runs.listing import run_details

N_BEFORE = 4


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, max_steps: int = 9) -> None:
    del max_steps  # Only read by the recorder.
    for step in range(steps):
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def resumed_events(
    folder: Path, kind: Callable[..., torch.optim.Optimizer], max_steps: int = 9, **arguments: Any
) -> Recording:
    """Record a script that loads the state of an optimizer after 4 steps."""
    model = TinyModel()
    before = kind(model.parameters(), lr=0.01, **arguments)
    train(model, before, N_BEFORE)
    optimizer = kind(model.parameters(), lr=0.01, **arguments)
    optimizer.load_state_dict(before.state_dict())
    record = Recording.start("test", ["test.py"], folder / "run")
    try:
        train(model, optimizer, max_steps=max_steps)
    finally:
        record.end()
    return record


def test_steps_go_on_with_the_count_of_a_loaded_optimizer(tmp_path: Path) -> None:
    record = resumed_events(tmp_path, torch.optim.AdamW)
    events = list(record.run.events())
    started = next(event for event in events if isinstance(event, ev.Started))
    assert (started.step, started.resumed) == (N_BEFORE, True)
    steps = [event for event in events if isinstance(event, ev.StepDone)]
    assert [event.step for event in steps] == [5, 6, 7]
    assert steps[0].seconds == 0.0  # It is not known when that step began.
    assert events[-1].step == 7
    assert record.n_steps == 3
    assert run_details(str(record.run.path)).resumed_at == N_BEFORE


@pytest.mark.parametrize(("max_steps", "total"), [(9, 9), (3, 7)])
def test_total_that_is_reached_before_counts_only_the_steps_of_this_process(
    max_steps: int, total: int, tmp_path: Path
) -> None:
    record = resumed_events(tmp_path, torch.optim.Adam, max_steps)
    started = next(event for event in record.run.events() if isinstance(event, ev.Started))
    assert started.steps == total


def test_optimizer_that_does_not_count_its_steps_is_said_to_have_trained(tmp_path: Path) -> None:
    record = resumed_events(tmp_path, torch.optim.SGD, momentum=0.9)
    events = list(record.run.events())
    assert [event.step for event in events if isinstance(event, ev.StepDone)] == [1, 2, 3]
    assert [event.step for event in events if isinstance(event, ev.Started) and event.resumed] == []
    warnings = [event.message for event in events if isinstance(event, ev.Warned)]
    assert any("SGD" in message for message in warnings)


def test_what_is_logged_before_the_first_step_has_the_count_of_the_given_optimizer(tmp_path: Path) -> None:
    model = TinyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train(model, optimizer, N_BEFORE)
    with tui_lab.watch(model, optimizer, out=tmp_path / "run") as run:
        run.log(val_loss=1.0)
        train(model, optimizer)
        run.log(val_loss=0.5)
    events = list(Run(tmp_path / "run").events())
    assert [event.step for event in events if isinstance(event, ev.Evaluated)] == [4, 7]


def test_new_optimizer_is_not_resumed(tmp_path: Path) -> None:
    record = Recording.start("test", ["test.py"], tmp_path / "run")
    model = TinyModel()
    train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    record.end()
    events = list(record.run.events())
    assert [event.step for event in events if isinstance(event, ev.StepDone)] == [1, 2, 3]
    assert not [event for event in events if isinstance(event, ev.Warned) and "SGD" in event.message]
    assert run_details(str(record.run.path)).resumed_at is None


@pytest.mark.parametrize("value", [torch.tensor([1.0, 2.0]), torch.tensor(float("nan")), -3, "7x", None, 1e300])
def test_what_is_no_number_of_steps_is_not_taken_for_one(value: object) -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(2))])
    optimizer.state[optimizer.param_groups[0]["params"][0]] = {"step": value}
    assert steps_before(optimizer) == 0


def test_optimizers_that_count_in_their_groups() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    optimizer.param_groups[0]["step"] = 12
    assert steps_before(optimizer) == 12
