"""The status line."""

from dataclasses import replace

from textual.geometry import Size
from textual.visual import VisualType

from tests.app.fake import FakePlayback, lab, ready, started, state_after, update
from tui_lab.app.panes.status_line import StatusLine
from tui_lab.app.session.messages import Preparing, SessionMessage
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev


class Line(StatusLine):
    """A line of so many columns, without a screen. Ten seconds pass before each frame."""

    def __init__(self, columns: int) -> None:
        super().__init__("status", memory=lambda: 2**28)
        self.columns = columns
        self.line = ""
        self.now = 0.0

    @property
    def size(self) -> Size:
        return Size(self.columns, 1)

    def update(self, content: VisualType = "", *, layout: bool = True) -> None:
        self.line = str(content)

    def shown(self, state: LabState, note: str = "", *, is_replayed: bool = False) -> str:
        self.now += 10.0
        self.show(state, self.now, note, is_replayed=is_replayed)
        return self.line


def trained(steps: int) -> list[SessionMessage]:
    return [update(step) for step in range(1, steps + 1)]


def test_status_line_shows_phase_step_times_and_memory() -> None:
    line, state = Line(200), state_after(*trained(30))
    shown = line.shown(state)
    for part in ("▶ running", "step 30/2,500", "epoch 0", "ETA 0:25", "mean 70,430 tok/s", "cpu ×2", "256 MiB"):
        assert part in shown
    state.apply(ev.Paused(step=30))
    assert "paused" in line.shown(state) and "ETA" not in line.shown(state)
    state.apply(ev.Resumed(step=30))
    assert "ETA 0:25" in line.shown(state)
    state.apply(Preparing("encoding", 1, 4))
    assert state.doing == "encoding 25%"
    state.apply(ready())
    assert line.shown(state).count("starting") == 1 and "loading" not in line.shown(state)


def test_what_has_no_share_that_grows_is_shown_with_its_time() -> None:
    line, state = Line(120), LabState()
    state.apply(Preparing("starting torch.compile", 0, 1))
    assert "starting torch.compile" in line.shown(state) and "%" not in line.shown(state)
    assert "for 0:20" in line.shown(state)
    state.apply(Preparing("encoding", 1, 4))
    line.shown(state)
    assert "encoding 25%" in line.shown(state) and "for" not in line.shown(state)


def test_run_says_that_it_compiles_until_that_is_done() -> None:
    line, state = Line(120), LabState()
    opened = ready("reverse", "train.compile=true")
    state.apply(opened)
    state.apply(started(opened))
    line.shown(state)
    shown = line.shown(state)
    assert "compiling" in shown and "for 0:" in shown
    for message in (update(1), update(2, seconds=60.0)):
        state.apply(message)
    shown = line.shown(state)
    assert "▶ running" in shown and "tok/s" not in shown and "for 0:" not in shown
    state.apply(update(3))
    assert "70,4" in line.shown(state)


def test_long_name_is_shortened_before_anything_is_left_out() -> None:
    opened = replace(ready(), name="reverse-20261126-192043-fork-20261126-192050")
    shown = Line(120).shown(state_after(*trained(30), opened, started(opened), update(31)))
    assert "…" in shown and "192050" in shown and "70,431 tok/s" in shown and "mean" in shown


def test_remaining_time_has_room_beside_the_process_in_80_columns() -> None:
    opened = replace(ready(), name="train_gpt2-20261126-192043")
    state = state_after(update(1), opened, started(opened), update(345), update(346))
    shown = Line(80).shown(state, "trained by process 12345")
    assert "ETA" in shown and "· process 12345" in shown and "192043" in shown and "step 346/2,500" in shown


def test_note_of_a_followed_run_is_shorter_where_the_mean_would_be_left_out() -> None:
    line, state, note = Line(80), state_after(update(1)), "trained by process 7"
    assert "mean 2.3" not in line.shown(state, note), "that of one loss is left out"
    state.apply(update(2))
    shown = line.shown(state, note)
    assert "· process 7  step 2/" in shown and "mean 1.15  ETA" in shown
    state.apply(ev.Paused(step=2))
    shown = line.shown(state, note)
    assert "· process 7  step 2/" in shown and "epoch 0" in shown, "what has room is shown"
    state.apply(ev.Resumed(step=2))
    state.apply(update(3))
    shown = Line(120).shown(state, note)
    assert note in shown and "epoch 0" in shown


def test_epoch_is_that_of_the_examples_in_use() -> None:
    state = LabState()
    state.apply(ready())
    epochs = []
    for step, overfit in ((30, 1), (50, 0)):
        state.apply(update(step))
        state.apply(ev.Changed(step=step, key="data.overfit", old=1 - overfit, new=overfit))
        epochs.append(state.epoch)
        state.apply(update(step + 10, epoch=99))
        epochs.append(state.epoch)
    assert epochs == [0, 9, 1, 1]


def test_replay_shows_neither_the_speed_of_the_recording_nor_another_number_of_steps() -> None:
    line, state = Line(200), state_after(*trained(31))
    shown = line.shown(state, is_replayed=True)
    assert "step 31  epoch" in shown and "ETA" not in shown and "tok/s" not in shown
    assert "replaying" in shown and "running" not in shown
    state.apply(ev.Paused(step=31))
    assert "replay paused" in line.shown(state, is_replayed=True)


async def test_checkpoint_that_the_user_asked_for_is_confirmed_until_the_next_key() -> None:
    async with lab(size=(80, 24)) as it:
        await it.tell(ev.Saved(step=30, path="checkpoints/a"))
        assert "saved" not in it.text("#status"), "nobody asked for it"
        await it.press("c")
        await it.tell(update(31), ev.Saved(step=31, path="checkpoints/b"), update(32))
        assert "saved step 31" in it.text("#status")
        await it.press("3")
        assert "saved" not in it.text("#status")


async def test_replay_answers_in_one_line_to_a_key_that_changes_a_run() -> None:
    async with lab(size=(80, 24)) as it:
        it.source.role = "replay"
        it.source.playback = FakePlayback(position=30)
        await it.pilot.press("H")
        await it.pilot.pause()
        assert "1" in it.text("#status") and "f forks" in it.text("#status")
        it.screen.config_pane.set_value("optim.lr", 0.5)
        await it.pilot.press("u")
        await it.pilot.pause()
        settings = it.screen.config_pane.settings
        assert settings is not None and not settings.edits
        assert "optim.lr" in it.text("#status") and "forks" not in it.text("#status")
        assert not it.pilot.app._notifications and it.source.sent == []


def test_script_that_ended_without_a_step_is_not_done() -> None:
    shown = Line(120).shown(state_after(ev.Stopped(step=0, reason="done")))
    assert "without a step" in shown and "done" not in shown
