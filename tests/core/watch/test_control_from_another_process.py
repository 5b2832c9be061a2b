"""Commands that another process sends reach a recorded loop between two steps, once and in order."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.core.watch.loops import TinyModel, batch, start
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import control, run_files
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import in_use
from tui_lab.core.watch.process import script_recording
from tui_lab.core.watch.process.script_recording import ScriptRecording
from tui_lab.core.watch.recording import Recording
from tui_lab.core.watch.steering.steering import StopRequested
from tui_lab.data.tokenizers import IdTokenizer
from tui_lab.util.child import child_environment
from tui_lab.util.errors import RunError

LR = 0.125
SENDER = """
import sys
from pathlib import Path
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import control
from tui_lab.core.runs.folder import Run

folder = Path(sys.argv[1])
for command in (
    cmd.Pause(),
    *3 * [cmd.Scale("optim.lr_factor", 2.0)],
    cmd.Undo(),
    cmd.Set("optim.grad_clip", -1.0),
    cmd.Evaluate(),
    cmd.Step(3),
):
    control.send(folder, command)
while sum(isinstance(event, ev.Paused) for event in Run(folder).events()) < 2:
    pass
control.send(folder, cmd.Save())
control.send(folder, cmd.Stop())
"""
"""Pauses the loop, changes it, lets it make three steps, and stops it."""


def train_until_stopped(model: TinyModel) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    step = 0
    while True:
        _, loss = model(*batch(step))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1


def test_commands_take_effect_in_the_order_in_which_they_were_sent(tmp_path: Path) -> None:
    record = Recording.start("test", ["test.py"], tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", SENDER, str(record.run.path)], env=child_environment()) as sender:
        with pytest.raises(StopRequested) as stopped:
            train_until_stopped(start())
        record.end(stopped.value)
        assert sender.wait() == 0

    events = list(record.run.events())
    first = next(i for i, event in enumerate(events) if isinstance(event, ev.Paused))
    refused = ["warned", "warned"]
    kinds = ["paused", *4 * ["changed"], *refused, "resumed", *3 * ["step"], "paused", "saved", "stopped"]
    assert [event.kind for event in events[first:-2]] + [events[-1].kind] == kinds
    assert events[-2].kind == "saved", "the last state is saved at the end"
    changed = [(event.old, event.new) for event in events if isinstance(event, ev.Changed)]
    assert changed == [(1, 2), (2, 4), (4, 8), (8, 4)]
    steps = [event for event in events if isinstance(event, ev.StepDone)]
    assert [event.step for event in steps] == list(range(1, len(steps) + 1))
    assert [event.lr for event in steps] == [LR] * (len(steps) - 3) + [4 * LR] * 3
    with pytest.raises(RunError):
        control.send(record.run.path, cmd.Stop())


def test_commands_for_an_earlier_process_are_not_executed(tmp_path: Path) -> None:
    config = ScriptConfig(command=("test.py",), folder=str(tmp_path))
    run = runs.create("test", config, IdTokenizer(0), tmp_path / "run")
    (run.path / run_files.CONTROL).touch()
    control.send(run.path, cmd.Stop())
    record = Recording.begin(run, run.lock(), config)
    control.send(run.path, cmd.Pause())
    control.send(run.path, cmd.Scale("optim.lr_factor", 2.0))
    control.send(run.path, cmd.Stop())
    with pytest.raises(StopRequested):
        train_until_stopped(start())
    record.end()
    assert [event.kind for event in run.events() if isinstance(event, ev.Paused | ev.Changed)] == ["paused", "changed"]


def test_commands_sent_while_the_script_imports_torch_wait_for_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_imported: list[Callable[[], None]] = []
    monkeypatch.setattr(script_recording, "when_imported", lambda name, call: once_imported.append(call))
    recording = ScriptRecording("train", ["train.py"], tmp_path / "run")
    for command in (cmd.Pause(), cmd.Scale("optim.lr_factor", 2.0), cmd.Stop()):
        control.send(recording.run.path, command)
    once_imported[0]()
    with pytest.raises(StopRequested) as stopped:
        train_until_stopped(start())
    recording.end(stopped.value)
    events = list(recording.run.events())
    assert [event.kind for event in events if isinstance(event, ev.Paused | ev.Changed)] == ["paused", "changed"]
    assert not control.can_send(recording.run.path)


def test_script_that_never_imports_torch_leaves_no_control_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_recording, "when_imported", lambda name, call: None)
    recording = ScriptRecording("train", ["train.py"], tmp_path / "run")
    assert control.can_send(recording.run.path)
    recording.end()
    assert not control.can_send(recording.run.path) and in_use(recording.run.path) is None
