"""Replay gives the events of a run again: at a speed, step by step, or the rest at once."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.app.session.helpers import close, collect, events, replaying, stopped, train, trained, wait_until
from tests.core.recorded import recorded, story
from tests.core.tiny import trainer_and_run
from tui_lab.app.session.messages import Printed, Ready, RecordedPause, Rewound, SessionFailed, SessionMessage
from tui_lab.app.session.replay import SPEEDS, Replay
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.core.runs.downsampled_log import DownsampledLog
from tui_lab.core.runs.folder import Run
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


def test_state_after_seeking_is_that_of_a_replay_played_until_there() -> None:
    """From any step, forward and back, and however the replay was played in between."""
    path = str(recorded(runs.runs_folder() / "changed", with_changes()).path)
    end = 8
    played = {step: state_at(path, step) for step in range(end + 1)}
    assert played[end].over and len(played[5].loaders) == 2 and played[3].changes and not played[2].changes
    now = [0.0]
    with replaying(path, lambda: now[0]) as replay:
        replay.send(cmd.Pause())
        state = LabState()
        for message in collect(replay, lambda message: replay.timeline is not None):
            state.apply(message)
        assert replay.timeline is not None and replay.timeline.end == end
        ahead = state.loader_at(5)
        assert state.step == 0 and ahead is not None and len(ahead.batch(5).ids) == 2, "changed at step 5"
        for step, then in [(5, 0), (end, 0), (2, 3), (0, 1), (7, 0), (1, 0), (end - 1, 0), (3, 2)]:
            replay.seek(1)
            replay.seek(step)  # Before the app has taken the messages of the one before.
            for message in replay.drain():
                state.apply(message)
            assert replay.position == step
            assert comparable(state) == comparable(played[step])
            assert len(state.recorded_loaders) == 2
            replay.send(cmd.Step(then))
            if then:
                for message in collect(replay, partial(is_step, step=step + then)):
                    state.apply(message)
            assert state.step == step + then == replay.position
        replay.seek(4)
        replay.send(cmd.Resume())
        now[0] += 1000.0
        for message in collect(replay, stopped):
            state.apply(message)
    assert comparable(state) == comparable(played[end])


def test_seeking_in_a_long_run_plays_what_the_downsampled_log_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded(runs.runs_folder() / "long", story(60))

    def thinned(run: Run) -> DownsampledLog:
        log = DownsampledLog(limit=2)
        for event in run.events():
            log.add(event)
        return log

    monkeypatch.setattr(Run, "downsampled", thinned)
    with replaying(str(run.path)) as replay:
        replay.send(cmd.Pause())
        collect(replay, lambda message: replay.timeline is not None)
        for step in (30, 45, 60, 7):
            replay.seek(step)
            state = LabState()
            for message in collect(replay, lambda message, step=step: replay.position == step):  # type: ignore[misc]
                state.apply(message)
            assert state.step == step and state.curves["loss"].points[-1] == (step, 2.0 / step)
            assert state.phase == ("ended" if step == 60 else "paused")
        assert not replay.drain(), "it is paused there"


def test_app_knows_whether_a_replay_is_paused() -> None:
    run = recorded(runs.runs_folder() / "paused")
    now = [0.0]
    with replaying(str(run.path), lambda: now[0]) as replay:
        replay.send(cmd.Pause())
        state = LabState()

        def phase_after(command: cmd.Command | None) -> str:
            if command is not None:
                replay.send(command)
            for message in replay.drain():
                state.apply(message)
            return state.phase

        collect(replay, lambda message: replay.timeline is not None)
        replay.seek(2)
        assert phase_after(None) == "paused" and phase_after(None) == "paused"
        assert phase_after(cmd.Resume()) == "running" and phase_after(cmd.Pause()) == "paused"
        replay.seek(8)
        assert phase_after(None) == "ended" and phase_after(cmd.Resume()) == "ended"


def test_the_phase_follows_the_playback_past_a_stop_after_which_the_run_was_resumed() -> None:
    def stopped_at_4() -> Iterator[ev.Event]:
        for event in story():
            yield event
            if isinstance(event, ev.Started):
                first = event
            if isinstance(event, ev.StepDone) and event.step == 4:
                yield ev.Stopped(step=4, reason="stopped")
                yield replace(first, step=4, resumed=True)

    run = recorded(runs.runs_folder() / "resumed", stopped_at_4())
    now = [0.0]
    with replaying(str(run.path), lambda: now[0]) as replay:
        replay.send(cmd.Pause())
        state = LabState()

        def phase() -> str:
            for message in replay.drain():
                state.apply(message)
            return state.phase

        collect(replay, lambda message: replay.timeline is not None)
        replay.seek(5)
        assert phase() == "paused"
        replay.seek(3)
        assert phase() == "paused"
        replay.send(cmd.Step(2))
        wait_until(lambda: phase() == "paused" and state.step == 5)
        replay.send(cmd.Resume())
        assert phase() == "running"


def test_seeking_at_infinite_speed_plays_on_at_the_speed_of_the_run() -> None:
    ready, _ = trained("train.eval_every=4")
    now = [0.0]
    with replaying(ready.path, lambda: now[0]) as replay:
        replay.speed = math.inf
        collect(replay, stopped)
        replay.seek(2)
        state = LabState()
        for message in replay.drain():
            state.apply(message)
        assert replay.speed == 1.0 and state.step == 2 and state.phase == "running"
        replay.speed = math.inf
        for message in collect(replay, stopped):
            state.apply(message)
    assert state.curves["loss"] == state_at(ready.path, 8).curves["loss"]


def test_seeking_from_the_end_plays_on_at_no_more_than_the_speed_of_the_run() -> None:
    run = recorded(runs.runs_folder() / "fast")
    now = [0.0]
    with replaying(str(run.path), lambda: now[0]) as replay:
        replay.speed = 64.0
        collect(replay, lambda message: replay.timeline is not None)
        replay.seek(3)
        assert replay.speed == 64.0
        replay.seek(8)
        replay.seek(6)
        assert replay.speed == 1.0


def with_changes() -> Iterator[ev.Event]:
    """A run of eight steps with live changes, one of which makes another loader."""
    for event in story():
        yield event
        if isinstance(event, ev.StepDone) and event.step == 3:
            yield ev.Changed(step=3, key="optim.lr", old=0.01, new=0.05)
        if isinstance(event, ev.StepDone) and event.step == 5:
            yield ev.Changed(step=5, key="train.batch_size", old=4, new=2)


def is_step(message: SessionMessage, step: int) -> bool:
    return isinstance(message, ev.StepDone) and message.step == step


def state_at(path: str, step: int) -> LabState:
    """Return the state of a fresh replay that has played everything until a step."""
    state = LabState()
    with replaying(path) as replay:
        replay.send(cmd.Step(step + 1))
        for message in collect(replay, lambda message: is_step(message, step + 1) or stopped(message)):
            if isinstance(message, ev.Event) and message.step > step:
                break
            state.apply(message)
    return state


def comparable(state: LabState) -> dict[str, object]:
    """Return what a state holds; of the loaders, what they give."""
    batches = [loader.batch(loader.from_step) for loader in state.loaders]
    shown = [(batch.step, list(batch.ids), batch.x.tolist()) for batch in batches]
    left_out = ("ready", "loaders", "recorded_loaders", "monitors")
    others = {name: value for name, value in vars(state).items() if name not in left_out}
    phase = "running" if state.phase == "paused" else state.phase
    return others | {"loaders": shown, "monitors": vars(state.monitors), "phase": phase}


def test_pauses_of_the_recording_are_told_and_do_not_pause_the_replay() -> None:
    def paused_story() -> Iterator[ev.Event]:
        for event in story():
            yield event
            if isinstance(event, ev.StepDone) and event.step == 3:
                yield from (ev.Paused(step=3), ev.Resumed(step=3))

    run = recorded(runs.runs_folder() / "paused", paused_story())
    with replaying(str(run.path)) as replay:
        collect(replay, lambda message: replay.timeline is not None)
        replay.seek(3)
        [rewound] = [message for message in replay.drain() if isinstance(message, Rewound)]
        assert [event.kind for event in rewound.past[-2:]] == ["paused", "resumed"]
        state = LabState()
        state.apply(replace(rewound, past=rewound.past[:-1]))
        assert state.phase == "running"
        replay.seek(0)
        replay.speed = math.inf
        told = [message.event for message in collect(replay, stopped) if isinstance(message, RecordedPause)]
    assert told == [ev.Paused(step=3), ev.Resumed(step=3)]


def test_replay_gives_the_model_of_the_checkpoint_before_its_step(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "a")
    for event in run.record(training.events()):
        if isinstance(event, ev.StepDone) and event.step == 3:
            training.commands.put(cmd.Save())
    with replaying(str(run.path)) as replay:
        replay.send(cmd.Pause())
        assert snapshot(replay)[0] == cmd.WeightsInfo(3), "the first one, since all are later"
        for step, saved in ((5, 3), (8, 8)):
            wait_until(partial(reached, replay, -1))
            replay.seek(step)
            wait_until(partial(reached, replay, step))
            assert snapshot(replay)[0] == cmd.WeightsInfo(saved)


def test_replay_shows_what_its_run_printed_at_the_end(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "a")
    list(run.record(training.events()))
    (run.path / run_files.OUTPUT).write_text("the result\n")
    with replaying(str(run.path)) as replay:
        replay.send(cmd.Step(2))
        messages = collect(replay, lambda message: isinstance(message, ev.StepDone) and message.step == 2)
        assert not [message for message in messages if isinstance(message, Printed)]
        replay.send(cmd.Resume())
        for _ in range(2):
            replay.speed = math.inf
            *_, before, printed = collect(replay, lambda message: isinstance(message, Printed))
            assert stopped(before) and printed == Printed(("the result",))
            replay.seek(4)


def test_replay_at_infinite_speed_gives_the_rest_once() -> None:
    ready, messages = trained("train.eval_every=4")
    with replaying(ready.path) as replay:
        replay.send(cmd.Step(4))
        replayed = collect(replay, lambda message: isinstance(message, ev.StepDone) and message.step == 4)
        replay.speed = math.inf
        replay.send(cmd.Resume())
        replayed += collect(replay, stopped)
        assert replay.drain() == []
    own_pauses = (ev.Paused, ev.Resumed)
    assert [event for event in events(replayed) if not isinstance(event, own_pauses)] == events(messages)


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
        replay.speed = math.inf
        collect(replay, stopped)
        for source in (session, replay):
            info, embedding = snapshot(source)
            assert info == cmd.WeightsInfo(ending.step - 2, best=True)
            assert embedding == best["W_E.weight"].flatten().tolist()
    close(session)


def reached(replay: Replay, step: int) -> bool:
    """Take what there is of a replay; return whether it is open and at `step` or later."""
    replay.drain()
    return replay.timeline is not None and replay.position >= step


def snapshot(source: Source) -> tuple[cmd.WeightsInfo, list[float]]:
    """Return a source's weights: which they are, and the embedding."""
    answers: list[tuple[cmd.WeightsInfo, list[float]]] = []

    def receive(weights: dict[str, Any], info: cmd.WeightsInfo) -> None:
        answers.append((info, weights["W_E.weight"].flatten().tolist()))

    source.send(cmd.Snapshot(receive))
    wait_until(lambda: bool(answers))
    return answers[0]
