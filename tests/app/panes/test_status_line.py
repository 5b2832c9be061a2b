"""The status line."""

from dataclasses import replace

from tests.app.fake import FakePlayback, lab, ready, started, update
from tui_lab.app.session.messages import Preparing
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev


async def test_status_line_shows_phase_step_times_and_memory() -> None:
    async with lab(size=(200, 50)) as it:
        shown = it.text("#status")
        for part in ("▶ running", "step 30/2,500", "epoch 0", "ETA 0:25", "mean 70,430 tok/s", "cpu ×2", "256 MiB"):
            assert part in shown
        await it.tell(ev.Paused(step=30))
        assert "paused" in it.text("#status") and "ETA" not in it.text("#status")
        await it.tell(ev.Resumed(step=30))
        assert "ETA 0:25" in it.text("#status")
        await it.tell(Preparing("encoding", 1, 4))
        assert it.screen.state.doing == "encoding 25%"
        await it.tell(ready())
        assert it.text("#status").count("starting") == 1 and "loading" not in it.text("#status")


async def test_what_has_no_share_that_grows_is_shown_with_its_time() -> None:
    async with lab(loaded=False, steps=0) as it:
        await it.tell(Preparing("starting torch.compile", 0, 1))
        assert "starting torch.compile" in it.text("#status") and "%" not in it.text("#status")
        await it.tell()
        await it.tell()
        assert "for 0:20" in it.text("#status")
        await it.tell(Preparing("encoding", 1, 4))
        await it.tell()
        assert "encoding 25%" in it.text("#status") and "for" not in it.text("#status")


async def test_run_says_that_it_compiles_until_that_is_done() -> None:
    async with lab("reverse", "train.compile=true", steps=0) as it:
        await it.tell()
        await it.tell()
        assert "compiling" in it.text("#status") and "for 0:" in it.text("#status")
        await it.tell(update(1), update(2, seconds=60.0))
        assert "▶ running" in it.text("#status") and "tok/s" not in it.text("#status")
        assert "for 0:" not in it.text("#status")
        await it.tell(update(3))
        assert "70,4" in it.text("#status")


async def test_long_name_is_shortened_before_anything_is_left_out() -> None:
    async with lab(size=(120, 40)) as it:
        opened = replace(ready(), name="reverse-20261126-192043-fork-20261126-192050")
        await it.tell(opened, started(opened), update(31))
        shown = it.text("#status")
        assert "…" in shown and "192050" in shown and "70,431 tok/s" in shown and "mean" in shown


async def test_remaining_time_has_room_beside_the_process_in_80_columns() -> None:
    async with lab(size=(80, 24), steps=1) as it:
        it.source.note = "trained by process 12345"
        opened = replace(ready(), name="train_gpt2-20261126-192043")
        await it.tell(opened, started(opened), update(345), update(346))
        shown = it.text("#status")
        assert "ETA" in shown and "· process 12345" in shown and "192043" in shown and "step 346/2,500" in shown


async def test_note_of_a_followed_run_is_shorter_where_the_mean_would_be_left_out() -> None:
    async with lab(size=(80, 30), steps=1) as it:
        it.source.note = "trained by process 7"
        assert "mean 2.3" not in it.text("#status"), "that of one loss is left out"
        await it.tell(update(2))
        assert "· process 7  step 2/" in it.text("#status") and "mean 1.15  ETA" in it.text("#status")
        await it.tell(ev.Paused(step=2))
        assert "· process 7  step 2/" in it.text("#status") and "epoch 0" in it.text("#status"), (
            "what has room is shown"
        )
        await it.tell(ev.Resumed(step=2))
        await it.pilot.resize_terminal(120, 40)
        await it.tell(update(3))
        assert "trained by process 7" in it.text("#status") and "epoch 0" in it.text("#status")


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


async def test_replay_shows_neither_the_speed_of_the_recording_nor_another_number_of_steps() -> None:
    async with lab(size=(200, 50)) as it:
        it.source.playback = FakePlayback(position=31)
        await it.tell(update(31))
        shown = it.text("#status")
        assert "step 31  epoch" in shown and "ETA" not in shown and "tok/s" not in shown
        assert "replaying" in shown and "running" not in shown
        await it.tell(ev.Paused(step=31))
        assert "replay paused" in it.text("#status")


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


async def test_script_that_ended_without_a_step_is_not_done() -> None:
    async with lab(steps=0) as it:
        await it.tell(ev.Stopped(step=0, reason="done"))
        assert "without a step" in it.text("#status") and "done" not in it.text("#status")
