"""Tracing a recorded run on request: a failed one gives what was recorded when it failed, a healthy one nothing."""

import shutil
from pathlib import Path

import pytest

from tests.core.tiny import of_kind, trainer_and_run
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs.nonfinite import trace_step
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.util.errors import RunError


def test_failed_run_is_traced_from_its_checkpoint(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", 'faults=["not_finite"]')
    [recorded] = of_kind(ev.NonFinite, list(run.record(training.events())))
    before = sorted(path.name for path in run.path.rglob("*"))
    assert trace_step(run) == recorded and recorded.origin.line == "", "the built-in model is not the user's code"
    assert sorted(path.name for path in run.path.rglob("*")) == before


def test_finite_step_gives_nothing_and_a_run_that_has_not_failed_needs_a_step(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.checkpoint_every=2")
    list(run.record(training.events()))
    assert trace_step(run, 6) is None
    with pytest.raises(RunError) as error:
        trace_step(run)
    assert error.value.code == "not_found"


def test_settings_that_were_changed_are_changed_again(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.checkpoint_every=2", "train.steps=20", "optim.name=adamw")
    events: list[ev.Event] = []
    for event in run.record(training.events()):
        events.append(event)
        if isinstance(event, ev.StepDone) and event.step == 3:
            training.commands.put(cmd.Set("train.batch_size", 3))
            training.commands.put(cmd.Set("optim.weight_decay", 100.0))
            training.commands.put(cmd.Set("optim.lr", 100.0))  # Each step multiplies the weights by -10,000.
    [recorded] = of_kind(ev.NonFinite, events)
    assert recorded.step > 3 and recorded.origin.n_batch == 3
    for path in run.saved_checkpoints():
        if step_of(path) > 2:
            shutil.rmtree(path)
    assert trace_step(run) == recorded
    assert trace_step(run, recorded.failed_step) == recorded and trace_step(run, recorded.step) is None
