"""Following the run of a script, from its start to its end; the test writes what a recorder would write."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.fake import update
from tests.app.script import CONFIG, LETTERS, STARTED
from tests.app.session.helpers import collect
from tui_lab.app.session import following
from tui_lab.app.session.following import Following
from tui_lab.app.session.messages import (
    Interrupted,
    PauseRequested,
    Printed,
    Ready,
    SessionFailed,
    SessionMessage,
    Waiting,
)
from tui_lab.app.session.replay import Replay
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import lock, run_files
from tui_lab.core.runs.control import ControlListener, send
from tui_lab.core.runs.event_log import line_of
from tui_lab.data.tokenizers import IdTokenizer
from tui_lab.util import files
from tui_lab.util.strict_json import dumps


class Script:
    """The run folder of a script, and the lock that its process holds."""

    def __init__(self, path: Path) -> None:
        unknown = ScriptConfig(command=("train.py",), folder="/home/user")
        self.run = runs.create("train", unknown, IdTokenizer(0), path)
        self.lock = lock.take(path)
        holder = lock.in_use(path)
        assert holder is not None
        self.following = Following(str(path), holder)

    def record(self, *events: ev.Event) -> None:
        with self.run.log.path.open("ab") as stream:
            stream.writelines(map(line_of, events))

    def start_training(self) -> None:
        """Write what a recorder writes at the first optimizer step."""
        files.write_text(self.run.path / run_files.TOKENIZER, dumps(LETTERS.state()))
        files.write_text(self.run.path / run_files.CONFIG, runs.config_text(CONFIG))
        self.record(STARTED, update(1))

    def prints(self, text: str) -> None:
        with (self.run.path / run_files.OUTPUT).open("a", encoding="utf-8") as stream:
            stream.write(text)

    def until(self, kind: type[SessionMessage]) -> list[SessionMessage]:
        return collect(self.following, lambda message: isinstance(message, kind))


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path / "runs" / "train-1")
    yield script
    script.following.close()
    script.following.join()
    script.lock.release()


def test_ready_comes_with_the_config_and_tokenizer_of_the_first_step(script: Script) -> None:
    script.prints("loading data\n")
    script.following.start()
    messages = script.until(Printed)
    assert isinstance(messages[0], Waiting) and messages[0].name == "train-1" and messages[0].seconds >= 0
    assert Printed(("loading data",)) in messages
    script.start_training()
    messages = script.until(ev.StepDone)
    ready = next(message for message in messages if isinstance(message, Ready))
    assert ready.config == CONFIG and ready.task is None and ready.tokenizer.state() == LETTERS.state()
    at = messages.index(ready)
    assert [type(message) for message in messages[at : at + 3]] == [Ready, ev.Started, ev.StepDone]


def test_script_that_trains_already_is_ready_at_once(script: Script) -> None:
    script.start_training()
    script.record(ev.Paused(step=1))
    script.following.start()
    messages = script.until(Ready)
    assert isinstance(messages[0], Ready) and len(messages[0].past) == 3
    assert not any(isinstance(message, Waiting) for message in messages)


def failure(script: Script) -> SessionFailed:
    [failed] = [message for message in script.until(SessionFailed) if isinstance(message, SessionFailed)]
    assert failed.is_script and "--resume" not in failed.message
    return failed


def test_process_that_dies_before_a_step_is_named_with_its_last_lines(script: Script) -> None:
    script.following.start()
    script.until(Waiting)
    script.prints("Traceback\nValueError: no data\n")
    script.lock.release()
    assert "ValueError: no data" in failure(script).message


def test_script_that_ends_without_a_step_is_named(script: Script) -> None:
    script.following.start()
    script.until(Waiting)
    script.prints("usage: train.py\n")
    script.record(ev.Stopped(step=0, reason="done"))
    assert "usage: train.py" in failure(script).message


def test_killed_script_is_named(script: Script) -> None:
    script.start_training()
    script.following.start()
    script.until(Ready)
    script.lock.release()
    assert "killed" in failure(script).message


def test_process_that_is_about_to_release_its_lock_is_not_another_one(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "HOLDER_SECONDS", following.POLL_SECONDS)
    script.start_training()
    script.following.start()
    script.until(Ready)
    (script.run.path / run_files.HOLDER).unlink()
    script.record(update(2))
    messages = script.until(ev.StepDone)
    script.lock.release()
    assert not any(isinstance(message, SessionFailed) for message in messages)
    assert "killed" in failure(script).message


def test_commands_reach_the_script(script: Script) -> None:
    received: list[cmd.Command] = []
    listener = ControlListener(script.run.path, received.append)
    commands: list[cmd.Command] = [cmd.Scale("optim.lr_factor", 2.0), cmd.Generate("a1", "The "), cmd.Attend("a2", 3)]
    with listener:
        assert script.following.role == "steering"
        for command in commands:
            script.following.send(command)
        listener.poll()
    assert received == commands


def test_app_that_attaches_before_the_first_step_learns_of_a_pause_and_can_cancel_it(script: Script) -> None:
    with ControlListener(script.run.path, lambda command: None):
        send(script.run.path, cmd.Pause())
        script.following.start()
        state = LabState()
        for message in script.until(PauseRequested):
            state.apply(message)
        assert state.requested_pause.is_next(state.phase) and state.requested_pause.outlives_app
        script.following.send(cmd.Resume())
        assert PauseRequested(None, by_steps=False) in script.until(PauseRequested)


def test_replay_shows_an_ended_script_and_what_it_printed(script: Script) -> None:
    script.start_training()
    script.record(ev.Stopped(step=1, reason="done"))
    script.prints("done\n")
    replay = Replay(str(script.run.path), lambda: 0.0)
    replay.start()
    messages = collect(replay, lambda message: isinstance(message, ev.StepDone | SessionFailed | Printed))
    assert isinstance(messages[0], Ready) and messages[1] == Printed(("done",))
    replay.close()
    replay.join()


def test_replay_of_a_killed_run_ends_as_interrupted(script: Script) -> None:
    script.start_training()
    replay = Replay(str(script.run.path), lambda: 0.0)
    replay.start()
    replay.speed = math.inf
    state = LabState()
    for message in collect(replay, lambda message: isinstance(message, Interrupted)):
        state.apply(message)
    assert (state.phase, state.ending) == ("ended", "interrupted") and state.step == 1
    replay.close()
    replay.join()


def test_replay_of_a_script_without_a_step_says_so(script: Script) -> None:
    replay = Replay(str(script.run.path), lambda: 0.0)
    replay.start()
    messages = collect(replay, lambda message: isinstance(message, SessionFailed))
    state = LabState()
    for message in messages:
        state.apply(message)
    [failed] = [message for message in messages if isinstance(message, SessionFailed)]
    assert failed.is_script and state.phase == "failed"
    replay.close()
    replay.join()
