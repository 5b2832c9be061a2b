"""Replay gives the events of a run again: at a speed, step by step, or the rest at once."""

import math
from pathlib import Path
from typing import Any

from tests.app.session.helpers import close, collect, events, replaying, stopped, train, trained, wait_until
from tui_lab.app.session.messages import Ready, SessionFailed
from tui_lab.app.session.replay import SPEEDS
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.training import checkpoint as ckpt


def test_replay_builds_the_same_state_as_the_training() -> None:
    ready, messages = trained("train.eval_every=4")
    live = LabState()
    for message in messages:
        live.apply(message)
    now = [0.0]
    with replaying(ready.path, lambda: now[0]) as replay:
        replayed = collect(replay, lambda message: isinstance(message, Ready))
        for _ in range(20):
            replay.change_speed(1)
        assert replay.speed == SPEEDS[-1]
        replay.send(cmd.Step(2))
        replayed += collect(replay, lambda message: isinstance(message, ev.StepDone) and message.step == 2)
        assert not replay.drain(), "paused after two steps"
        replay.send(cmd.Resume())
        now[0] += 1000.0
        replayed += collect(replay, stopped)
    state = LabState()
    for message in replayed:
        state.apply(message)
    assert state.curves["loss"] == live.curves["loss"] and state.ending == live.ending == "done"


def test_replay_gives_the_model_of_the_run() -> None:
    ready, _ = trained()
    models: list[Any] = []
    with replaying(ready.path) as replay:
        replay.send(cmd.Inspect(models.append))
    assert len(models) == 1


def test_replay_at_infinite_speed_gives_the_rest_once() -> None:
    ready, messages = trained("train.eval_every=4")
    with replaying(ready.path) as replay:
        replay.send(cmd.Step(4))
        replayed = collect(replay, lambda message: isinstance(message, ev.StepDone) and message.step == 4)
        replay.speed = math.inf
        replay.send(cmd.Resume())
        replayed += collect(replay, stopped)
        assert replay.drain() == []
    assert events(replayed) == events(messages)


def test_replay_of_a_damaged_event_log_fails_with_its_name() -> None:
    ready, _ = trained()
    with (Path(ready.path) / "events.jsonl").open("a") as log:
        log.write("nonsense\n")
    with replaying(ready.path) as replay:
        messages = collect(replay, lambda message: isinstance(message, SessionFailed))
    assert "events.jsonl" in str(messages[-1])


def test_best_weights_generate_after_early_stopping_and_in_the_replay() -> None:
    session, messages = train("optim.lr=100", "train.eval_every=1", "train.patience=2", "train.steps=50")
    ready = messages[0]
    ending = messages[-1]
    assert isinstance(ready, Ready) and isinstance(ending, ev.Stopped) and ending.reason == "patience"
    best = ckpt.load(runs.find(ready.path).latest()).best
    assert best is not None and ending.restored == ending.step - 2
    with replaying(ready.path) as replay:
        for source in (session, replay):
            info, embedding = snapshot(source)
            assert info == cmd.WeightsInfo(ending.step - 2, best=True)
            assert embedding == best["W_E.weight"].flatten().tolist()
    close(session)


def snapshot(source: Source) -> tuple[cmd.WeightsInfo, list[float]]:
    """Return a source's weights: which they are, and the embedding."""
    answers: list[tuple[cmd.WeightsInfo, list[float]]] = []

    def receive(weights: dict[str, Any], info: cmd.WeightsInfo) -> None:
        answers.append((info, weights["W_E.weight"].flatten().tolist()))

    source.send(cmd.Snapshot(receive))
    wait_until(lambda: bool(answers))
    return answers[0]
