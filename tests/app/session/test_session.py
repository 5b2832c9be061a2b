"""The worker's side, with real trainings."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.tiny import tiny
from tui_lab.app.session.generation_thread import GenerationThread, Request
from tui_lab.app.session.messages import (
    GenerationFinished,
    GenerationMessage,
    GenerationStarted,
    Ready,
    SessionFailed,
    SessionMessage,
    TokenGenerated,
)
from tui_lab.app.session.replay import SPEEDS, Replay
from tui_lab.app.session.session import Session
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.util.errors import ConfigError


def collect(source: Source, until: Callable[[SessionMessage], bool]) -> list[SessionMessage]:
    """Messages up to the first for which `until` holds."""
    found: list[SessionMessage] = []
    tick = threading.Event()
    for _ in range(3000):
        for message in source.drain():
            found.append(message)
        if any(until(message) for message in found):
            return found
        tick.wait(0.01)
    raise AssertionError(f"never came: {found}")


def stopped(message: SessionMessage) -> bool:
    return isinstance(message, ev.Stopped | SessionFailed)


def train(*overrides: str, commands: tuple[cmd.Command, ...] = ()) -> tuple[Session, list[SessionMessage]]:
    session = Session(lambda report, commands: open_run.start("tiny", tiny(*overrides), commands=commands))
    for command in commands:
        session.send(command)
    session.start()
    return session, collect(session, stopped)


def test_a_training_under_the_app_leaves_the_folder_of_a_headless_one() -> None:
    session, found = train()
    session.close()
    session.join()
    ready = found[0]
    assert isinstance(ready, Ready)
    run = runs.find(ready.path)
    assert [event for event in found if isinstance(event, ev.Event)] == list(run.events())
    summary = run.summary()
    assert summary is not None and summary.reason == "done" and run.latest().is_dir()


def test_commands_sent_before_it_is_open_are_obeyed() -> None:
    session, found = train(commands=(cmd.Set("optim.lr", 0.5),))
    session.close()
    session.join()
    assert [event for event in found if isinstance(event, ev.Changed)][0].new == 0.5


def test_opened_paused_it_makes_no_update_until_asked() -> None:
    session = Session(lambda report, commands: open_run.start("tiny", tiny(), commands=commands), paused=True)
    session.start()
    found = collect(session, lambda message: isinstance(message, ev.Paused))
    assert not [event for event in found if isinstance(event, ev.StepDone)]
    session.close()
    session.join()
    assert [type(m) for m in session.drain()][-1] is ev.Stopped


@pytest.mark.parametrize("error", [ConfigError(["optim.lr = -1: no"]), ZeroDivisionError("oh")])
def test_what_goes_wrong_while_opening_is_told_in_words(error: Exception) -> None:
    def broken(report: Any, commands: cmd.CommandQueue) -> open_run.OpenRun:
        raise error

    session = Session(broken)
    session.start()
    session.join()
    [trouble] = session.drain()
    assert isinstance(trouble, SessionFailed) and str(error) in trouble.message
    assert bool(trouble.details) == isinstance(error, ZeroDivisionError)


def test_the_model_speaks_after_the_end_too() -> None:
    session, found = train()
    ready = found[0]
    assert isinstance(ready, Ready)
    speaker = GenerationThread(session.send)
    speaker.start(Request(1, "123", 3, 0.0, 0, 1.0, 0), ready.config, ready.task.tokenizer)
    said: list[GenerationMessage] = []
    tick = threading.Event()
    for _ in range(3000):
        said += speaker.drain()
        if said and isinstance(said[-1], GenerationFinished):
            break
        tick.wait(0.01)
    assert said[0] == GenerationStarted(1, cmd.WeightsInfo(8))
    assert [type(m) for m in said[1:]] == [TokenGenerated] * 3 + [GenerationFinished]
    session.close()
    session.join()


def test_a_fork_begins_with_the_record_and_the_weights_of_its_run() -> None:
    session, found = train()
    session.close()
    session.join()
    ready = found[0]
    assert isinstance(ready, Ready)
    config = settings.changed(settings.changed(ready.config, "train.steps", 12), "optim.lr", 0.002)
    opened = open_run.fork(ready.path, config)
    assert opened.trainer.step == 8 and opened.run.path.name.startswith("tiny")
    list(opened.run.record(opened.trainer.events()))
    steps = [event.step for event in opened.run.events() if isinstance(event, ev.StepDone)]
    assert steps == list(range(1, 13)) and runs.find(ready.path).summary() is not None
    with pytest.raises(ValueError, match="does not fit"):
        open_run.fork(ready.path, settings.changed(config, "model.d_ff", 9))


def test_a_forks_record_tells_which_settings_held_when() -> None:
    session, found = train("optim.lr=0.02", commands=(cmd.Set("optim.lr", 0.5),))
    session.close()
    session.join()
    ready = found[0]
    assert isinstance(ready, Ready)
    wanted = settings.build(
        ready.config.model_dump(), ["optim.lr=0.002", "train.batch_size=2", "train.seed=7", "train.steps=12"]
    )
    forked = Session(lambda report, commands: open_run.fork(ready.path, wanted, commands=commands))
    forked.start()
    state = LabState()
    for message in collect(forked, stopped):
        state.apply(message)
    forked.close()
    forked.join()
    assert state.config == wanted and state.ready is not None and state.ready.config == ready.config
    loader = state.loader_at(9)
    assert loader is not None and len(loader.batch(9).ids) == 2 and loader.seed == 7
    assert [(c.key, c.new) for c in state.changes if c.step == 0] == [("optim.lr", 0.5)]


def test_what_an_earlier_session_changed_can_be_undone() -> None:
    session, found = train("optim.lr=0.02", commands=(cmd.Set("optim.lr", 0.5), cmd.Set("model.dropout", 0.1)))
    session.close()
    session.join()
    ready = found[0]
    assert isinstance(ready, Ready)
    resumed = Session(lambda report, commands: open_run.resume(ready.path, 10, commands=commands))
    resumed.send(cmd.Undo())
    resumed.send(cmd.Undo())
    resumed.start()
    changes = [event for event in collect(resumed, stopped) if isinstance(event, ev.Changed)]
    resumed.close()
    resumed.join()
    assert [(change.key, change.new) for change in changes] == [("model.dropout", 0.0), ("optim.lr", 0.02)]


def test_a_replay_tells_the_same_story_at_its_speed() -> None:
    session, found = train("train.eval_every=4")
    session.close()
    session.join()
    live = LabState()
    for message in found:
        live.apply(message)
    ready = found[0]
    assert isinstance(ready, Ready)
    now = [0.0]
    replay = Replay(ready.path, lambda: now[0])
    replay.start()
    told = collect(replay, lambda message: isinstance(message, Ready))
    for _ in range(20):
        replay.change_speed(1)
    assert replay.speed == SPEEDS[-1]
    replay.send(cmd.Step(2))
    told += collect(replay, lambda message: isinstance(message, ev.StepDone) and message.step == 2)
    assert not replay.drain(), "paused after two steps"
    replay.send(cmd.Resume())
    now[0] += 1000.0
    told += collect(replay, stopped)
    shown = LabState()
    for message in told:
        shown.apply(message)
    assert shown.curves["loss"] == live.curves["loss"] and shown.ending == live.ending == "done"
    taken: list[Any] = []
    replay.send(cmd.Inspect(taken.append))
    replay.close()
    replay.join()
    assert len(taken) == 1


def test_a_replay_at_the_highest_speed_tells_the_rest_at_once_and_nothing_twice() -> None:
    session, found = train("train.eval_every=4")
    session.close()
    session.join()
    ready = found[0]
    assert isinstance(ready, Ready)
    replay = Replay(ready.path, lambda: 0.0)
    replay.start()
    replay.send(cmd.Step(4))
    told = collect(replay, lambda message: isinstance(message, ev.StepDone) and message.step == 4)
    replay.speed = math.inf
    replay.send(cmd.Resume())
    told += collect(replay, stopped)
    assert replay.drain() == []
    replay.close()
    replay.join()
    assert [event for event in told if isinstance(event, ev.Event)] == [e for e in found if isinstance(e, ev.Event)]


def test_a_replay_of_a_damaged_record_says_so() -> None:
    session, found = train()
    session.close()
    session.join()
    ready = found[0]
    assert isinstance(ready, Ready)
    with (Path(ready.path) / "events.jsonl").open("a") as record:
        record.write("nonsense\n")
    replay = Replay(ready.path, lambda: 0.0)
    replay.start()
    told = collect(replay, lambda message: isinstance(message, SessionFailed))
    assert "events.jsonl" in str(told[-1])
    replay.close()
    replay.join()


def test_the_state_finds_the_loader_of_any_step() -> None:
    session, found = train(commands=(cmd.Set("train.batch_size", 2),))
    session.close()
    session.join()
    state = LabState()
    for message in found:
        state.apply(message)
    loader = state.loader_at(5)
    assert loader is not None and len(loader.batch(5).ids) == 2
    assert state.seconds_left == 0 and state.phase == "ended"


def test_after_patience_and_in_its_replay_the_best_weights_speak() -> None:
    session, found = train("optim.lr=100", "train.eval_every=1", "train.patience=2", "train.steps=50")
    ready, ending = found[0], found[-1]
    assert isinstance(ready, Ready) and isinstance(ending, ev.Stopped) and ending.reason == "patience"
    replay = Replay(ready.path, lambda: 0.0)
    replay.start()
    tick = threading.Event()
    for source in (session, replay):
        told: list[tuple[cmd.WeightsInfo, list[float]]] = []

        def receive(weights: dict[str, Any], whose: cmd.WeightsInfo, told: Any = told) -> None:
            told.append((whose, weights["W_E.weight"].flatten().tolist()))

        source.send(cmd.Snapshot(receive))
        for _ in range(3000):
            if told:
                break
            tick.wait(0.01)
        [(whose, weights)] = told
        assert whose == cmd.WeightsInfo(ending.step - 2, best=True) == cmd.WeightsInfo(ending.restored or 0, best=True)
        best = ckpt.load(runs.find(ready.path).latest()).best
        assert best is not None and best["W_E.weight"].flatten().tolist() == weights
        source.close()
        source.join()
