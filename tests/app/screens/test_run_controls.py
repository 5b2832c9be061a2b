"""RunControls: what pausing and changing the speed do to a run and to a replay."""

from tests.app.fake import FakePlayback, FakeSource
from tui_lab.app.screens.run_controls import RunControls, pause_replay
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd


def test_pause_key_of_a_training_follows_its_events() -> None:
    source, state = FakeSource(), LabState()
    controls = RunControls(source, state)
    state.phase = "running"
    controls.actions["pause"]()
    state.phase = "paused"
    controls.actions["pause"]()
    assert source.sent == [cmd.Pause(), cmd.Resume()]


def test_pause_key_of_a_replay_follows_its_playback() -> None:
    playback = FakePlayback()
    source = FakeSource(role="replay", playback=playback)
    controls = RunControls(source, LabState(phase="running"))
    for paused in (False, True):
        playback.paused = paused
        controls.actions["pause"]()
    assert source.sent == [cmd.Pause(), cmd.Resume()]


def test_speed_keys_change_a_replay_and_leave_a_training_alone() -> None:
    playback = FakePlayback()
    for source in (FakeSource(), FakeSource(role="replay", playback=playback)):
        controls = RunControls(source, LabState())
        for id in ("faster", "faster", "slower"):
            controls.actions[id]()
    assert playback.speed == 2.0


def test_seek_keys_move_a_replay_by_a_twentieth_within_its_bounds() -> None:
    playback = FakePlayback()
    for source in (FakeSource(), FakeSource(role="replay", playback=playback)):
        controls = RunControls(source, LabState())
        for id in ("seek_back", "seek_forward", "seek_forward", "seek_forward", "seek_back"):
            controls.actions[id]()
    assert playback.sought == [0, 20, 40, 60, 40]
    playback.position = playback.timeline.end - 1
    controls.actions["seek_forward"]()
    assert playback.sought[-1] == playback.timeline.end


def test_space_at_the_end_of_a_replay_plays_it_again() -> None:
    playback = FakePlayback(position=400)
    source = FakeSource(role="replay", playback=playback)
    RunControls(source, LabState(phase="ended")).actions["pause"]()
    assert playback.sought == [0] and source.sent == [cmd.Resume()]


def test_question_pauses_a_replay_that_plays_and_plays_it_on() -> None:
    playback = FakePlayback()
    source = FakeSource(role="replay", playback=playback)
    play_on = pause_replay(source)
    assert source.sent == [cmd.Pause()]
    play_on()
    assert source.sent == [cmd.Pause(), cmd.Resume()]
    playback.paused = True
    pause_replay(source)()
    pause_replay(FakeSource())()
    assert len(source.sent) == 2
