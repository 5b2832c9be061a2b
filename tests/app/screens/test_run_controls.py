"""RunControls: what pausing and changing the speed do to a run and to a replay."""

from dataclasses import dataclass

from tests.app.fake import FakeSource
from tui_lab.app.screens.run_controls import RunControls
from tui_lab.app.session.state import LabState
from tui_lab.core import commands as cmd


@dataclass
class FakePlayback:
    paused: bool = False
    speed: int = 0

    def change_speed(self, by: int) -> None:
        self.speed += by


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
    assert playback.speed == 1
