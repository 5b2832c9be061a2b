"""The first process of a script with several: its commands change nothing before all processes can."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.distributed_c10d import Store
from torch.nn.parallel import DistributedDataParallel

from tests.core.watch.loops import batch, start
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.watch.ranks import agreement, leading_rank
from tui_lab.core.watch.ranks.agreement import Follower, SettingChange
from tui_lab.core.watch.recording import Recording

LR = 0.5
COMMANDS = (
    cmd.Scale("optim.lr_factor", 0.5),
    cmd.Scale("optim.lr_factor", 0.5),
    cmd.Set("optim.lr_factor", 0.25),
    cmd.Set("optim.grad_clip", -1.0),
    cmd.Set("model.dropout", 0.0),
    cmd.Undo(),
)


def train(
    folder: Path, model: nn.Module, follower: Follower | None = None
) -> tuple[Recording, list[tuple[int, SettingChange]]]:
    """Train 80 steps with all commands sent after the first; return the changes that the follower has made."""
    record = Recording.start("test", ["test.py"], folder / "run")
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    made = []
    try:
        for step in range(80):
            _, loss = model(*batch(step))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            if step == 0:
                for command in COMMANDS:
                    record.boundary.control.commands.put(command)
            if follower is not None and (change := follower.stepped()) is not None:
                made.append((step + 1, change))
    finally:
        record.end()
    return record, made


def changes_of(record: Recording) -> list[ev.Changed]:
    return [event for event in record.run.events() if isinstance(event, ev.Changed)]


def warnings_of(record: Recording) -> str:
    return "\n".join(event.message for event in record.run.events() if isinstance(event, ev.Warned))


def test_changes_are_made_after_the_step_of_the_others(store: Store, tmp_path: Path) -> None:
    record, made = train(tmp_path, DistributedDataParallel(start()), Follower(store, 1))
    changed = changes_of(record)
    assert [change for _, change in made] == [
        SettingChange("optim.lr_factor", 0.5),
        SettingChange("optim.lr_factor", 0.25),
        SettingChange("model.dropout", 0.0),
        SettingChange("model.dropout", None),
    ]
    assert [event.step for event in changed] == [step for step, _ in made]
    assert [event.new for event in changed] == [0.5, 0.25, 0.0, 0.25]
    rates = [event.lr for event in record.run.events() if isinstance(event, ev.StepDone)]
    first, second = changed[0].step, changed[1].step
    assert rates == [LR] * first + [LR / 2] * (second - first) + [LR / 4] * (80 - second)
    assert "grad_clip" in warnings_of(record)


def test_without_data_parallelism_nothing_changes(store: Store, tmp_path: Path) -> None:
    """Such processes need not make the same number of steps."""
    record, made = train(tmp_path, start(), Follower(store, 1))
    assert changes_of(record) == [] and made == []
    assert not store.check(["proposal/1"])


def test_processes_without_tui_lab_leave_all_as_it_is(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "SECONDS_TO_WAIT", 0.0)
    record, _ = train(tmp_path, DistributedDataParallel(start()))
    assert changes_of(record) == [] and leading_rank.NOT_FOLLOWED in warnings_of(record)


def test_a_lost_store_is_a_warning(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: object, keys: list[str]) -> bool:
        raise torch.distributed.DistStoreError("connection reset")

    monkeypatch.setattr(type(store), "check", lost)
    record, _ = train(tmp_path, DistributedDataParallel(start()))
    assert changes_of(record) == [] and leading_rank.NO_STORE in warnings_of(record)
    assert len([event for event in record.run.events() if isinstance(event, ev.StepDone)]) == 80
