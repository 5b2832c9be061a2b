"""Session and GenerationThread, with real runs."""

from pathlib import Path
from typing import Any

import pytest

from tests.app.fake import FakeSource
from tests.app.session.helpers import close, collect, events, stopped, train, trained, wait_until
from tests.core.tiny import tiny, trainer_and_run
from tui_lab.app.session.generation import Generation
from tui_lab.app.session.generation_thread import GenerationRequest, GenerationThread
from tui_lab.app.session.messages import (
    GenerationFinished,
    GenerationMessage,
    GenerationStarted,
    Ready,
    SessionFailed,
    TokenGenerated,
    WeightsNotCopied,
)
from tui_lab.app.session.session import FAILED, Session
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.data.dataset import ReportProgress
from tui_lab.util.errors import ConfigError


def test_session_records_every_event_and_a_summary() -> None:
    ready, messages = trained()
    run = runs.find(ready.path)
    assert events(messages) == list(run.events())
    summary = run.summary()
    assert summary is not None and summary.reason == "done" and run.latest().is_dir()


def test_commands_sent_before_the_run_is_open_take_effect() -> None:
    _, messages = trained(commands=(cmd.Set("optim.lr", 0.5),))
    [change] = [message for message in messages if isinstance(message, ev.Changed)]
    assert change.new == 0.5


def test_session_opened_paused_makes_no_step() -> None:
    session = Session(lambda report, queue: open_run.start("tiny", tiny(), commands=queue), paused=True)
    session.start()
    messages = collect(session, lambda message: isinstance(message, ev.Paused))
    assert not [message for message in messages if isinstance(message, ev.StepDone)]
    close(session)
    assert isinstance(session.drain()[-1], ev.Stopped)


@pytest.mark.parametrize(("commands", "is_kept"), [((), False), ((cmd.Step(1),), True)])
def test_run_that_makes_no_step_leaves_no_folder(
    commands: tuple[cmd.Command, ...], is_kept: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    session = Session(lambda report, queue: open_run.start("tiny", tiny(), folder, commands=queue), paused=True)
    session.removes_unused = True
    session.start()
    collect(session, lambda message: isinstance(message, ev.Paused))
    for command in commands:
        session.send(command)
        collect(session, lambda message: isinstance(message, ev.Paused))
    close(session)
    assert folder.exists() == is_kept and session.unsaved is None


def test_run_that_is_closed_while_it_is_opened_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def open(report: ReportProgress, queue: cmd.CommandQueue) -> open_run.OpenRun:
        session.close()  # As while torch.compile starts, which reports nothing.
        return open_run.start("tiny", tiny(), folder, report, queue)

    session = Session(open)
    session.start()
    session.join()
    assert not folder.exists() and session.drain() == []


@pytest.mark.parametrize(
    ("error", "has_details"), [(ConfigError(["optim.lr = -1: no"]), False), (ZeroDivisionError("oh"), True)]
)
def test_error_while_opening_is_a_message(error: Exception, has_details: bool) -> None:
    def fail(report: Any, commands: cmd.CommandQueue) -> open_run.OpenRun:
        raise error

    session = Session(fail)
    session.start()
    session.join()
    [failure] = session.drain()
    assert isinstance(failure, SessionFailed)
    assert str(error) in failure.message and bool(failure.details) == has_details
    reasons: list[str] = []
    session.send(cmd.Snapshot(lambda weights, info: None, refuse=reasons.append))
    assert reasons == [FAILED]


def test_model_generates_after_the_end() -> None:
    session, session_messages = train()
    ready = session_messages[0]
    assert isinstance(ready, Ready) and ready.trainer_config is not None
    generation = GenerationThread(session.send)
    generation.start(GenerationRequest(1, "123", 3, 0.0, 0, 1.0, 0), ready.trainer_config, ready.tokenizer)
    messages: list[GenerationMessage] = []

    def finished() -> bool:
        messages.extend(generation.drain())
        return bool(messages) and isinstance(messages[-1], GenerationFinished)

    wait_until(finished)
    assert messages[0] == GenerationStarted(1, cmd.WeightsInfo(8))
    assert [type(message) for message in messages[1:]] == [TokenGenerated] * 3 + [GenerationFinished]
    assert messages[-1] == GenerationFinished(1)
    close(session)


def test_weights_that_were_not_copied_can_be_asked_for_again() -> None:
    source = FakeSource(started=True)
    generation = Generation(source, LabState())
    generation.copy_weights(at_evaluation=True)
    generation.copy_weights(at_evaluation=True)
    [snapshot] = source.snapshots
    assert snapshot.refuse is not None
    snapshot.refuse("no memory")
    assert generation.drain() == [WeightsNotCopied("no memory")]
    generation.copy_weights(at_evaluation=True)
    assert len(source.snapshots) == 2


def test_fork_starts_with_the_events_and_weights_of_its_run() -> None:
    ready, _ = trained()
    assert ready.trainer_config is not None
    config = settings.changed(settings.changed(ready.trainer_config, "train.steps", 12), "optim.lr", 0.002)
    opened = open_run.fork(ready.path, config)
    assert opened.trainer.step == 8 and opened.run.path.name.startswith("tiny")
    list(opened.run.record(opened.trainer.events()))
    steps = [event.step for event in opened.run.events() if isinstance(event, ev.StepDone)]
    assert steps == list(range(1, 13)) and runs.find(ready.path).summary() is not None
    with pytest.raises(ConfigError) as caught:
        open_run.fork(ready.path, settings.changed(config, "model.d_ff", 9))
    assert [problem.key for problem in caught.value.problems] == ["model.d_ff"]


def test_fork_starts_at_the_checkpoint_before_a_step(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "a", "train.checkpoint_every=3")
    for event in run.record(training.events()):
        if event.step == 3 and isinstance(event, ev.StepDone):
            training.commands.put(cmd.Save())
        elif event.step == 3 and isinstance(event, ev.Saved):
            training.commands.put(cmd.Set("optim.lr", 0.5))
    assert [step_of(path) for path in run.saved_checkpoints()] == [3, 6, 8]
    for step, start in ((2, 3), (3, 3), (5, 3), (7, 6), (8, 8), (None, 8)):
        opened = open_run.fork(str(run.path), tiny("optim.lr=0.002"), at_step=step)
        opened.close()
        assert opened.trainer.step == start
    opened = open_run.fork(str(run.path), tiny("optim.lr=0.002"), at_step=5)
    list(opened.run.record(opened.trainer.events()))
    changes = [event for event in opened.run.events() if isinstance(event, ev.Changed)]
    rates = [(change.step, change.new) for change in changes if change.key == "optim.lr"]
    assert rates == [(3, 0.002)], "the change after the checkpoint is not a part of the fork"
    opened.close()


def test_events_of_a_fork_show_which_settings_were_in_force() -> None:
    ready, _ = trained("optim.lr=0.02", commands=(cmd.Set("optim.lr", 0.5),))
    config = settings.build(
        ready.config.model_dump(), ["optim.lr=0.002", "train.batch_size=2", "train.seed=7", "train.steps=12"]
    )
    fork = Session(lambda report, queue: open_run.fork(ready.path, config, commands=queue))
    fork.start()
    state = LabState()
    for message in collect(fork, stopped):
        state.apply(message)
    close(fork)
    assert state.config == config and state.ready is not None and state.ready.config == ready.config
    loader = state.loader_at(9)
    assert loader is not None and len(loader.batch(9).ids) == 2 and loader.seed == 7
    assert [(change.key, change.new) for change in state.changes if change.step == 0] == [("optim.lr", 0.5)]


def test_changes_of_an_earlier_session_can_be_undone() -> None:
    ready, _ = trained("optim.lr=0.02", commands=(cmd.Set("optim.lr", 0.5), cmd.Set("model.dropout", 0.1)))
    resumed = Session(lambda report, queue: open_run.resume(ready.path, 10, commands=queue))
    resumed.send(cmd.Undo())
    resumed.send(cmd.Undo())
    resumed.start()
    changes = [event for event in collect(resumed, stopped) if isinstance(event, ev.Changed)]
    close(resumed)
    assert [(change.key, change.new) for change in changes] == [("model.dropout", 0.0), ("optim.lr", 0.02)]


def test_state_has_the_loader_of_any_step() -> None:
    _, messages = trained(commands=(cmd.Set("train.batch_size", 2),))
    state = LabState()
    for message in messages:
        state.apply(message)
    loader = state.loader_at(5)
    assert loader is not None and len(loader.batch(5).ids) == 2
    assert state.seconds_left == 0 and state.phase == "ended"
