"""Forking a replay: its weights are those of the checkpoint, so its settings are too."""

from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.app.fake import FakePlayback, lab, ready, started, update
from tests.app.test_resume import until
from tests.core.tiny import trainer_and_run
from tui_lab.app.app import LabApp
from tui_lab.app.screens.dialogs import Ask, AskLine
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run


def run_with_a_change(path: Path) -> Run:
    """A run whose lr was changed after step 2, saved by hand after step 3, and stopped and saved after step 4."""
    training, run = trainer_and_run(path, "optim.lr=0.01", "train.steps=8")
    for event in run.record(training.events()):
        if isinstance(event, ev.StepDone) and event.step == 2:
            training.commands.put(cmd.Set("optim.lr", 0.05))
        if isinstance(event, ev.StepDone) and event.step == 3:
            training.commands.put(cmd.Save())
        if isinstance(event, ev.StepDone) and event.step == 4:
            training.commands.put(cmd.Stop())
    return run


async def press_f(pilot: Pilot[None]) -> None:
    """Press f, and wait until the checkpoint is read."""
    await pilot.press("f")
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[LabScreen.Restart]:
    """The restarts and forks that the lab asks for, which are not carried out."""
    messages: list[LabScreen.Restart] = []
    monkeypatch.setattr(LabApp, "on_lab_screen_restart", lambda app, message: messages.append(message))
    return messages


async def test_fork_of_a_replay_has_the_settings_of_the_checkpoint_and_the_edits(
    tmp_path: Path, restarts: list[LabScreen.Restart]
) -> None:
    run = run_with_a_change(tmp_path / "run")
    app = LabApp(Pick("replay", str(run.path)))
    async with app.run_test(size=(120, 40)) as pilot:
        replay = app.screen
        assert isinstance(replay, LabScreen) and replay.source.playback is not None
        playback = replay.source.playback
        replay.source.send(cmd.Pause())
        await until(pilot, lambda: playback.timeline is not None)

        async def fork_at(step: int) -> None:
            playback.seek(step)
            await until(pilot, lambda: replay.state.step == step)
            await press_f(pilot)

        await fork_at(1)
        assert isinstance(app.screen, Ask) and not restarts, "the weights are not those of step 1"
        assert playback.timeline is not None and playback.timeline.checkpoints == (3, 4)
        await pilot.press("escape")
        replay.config_pane.set_value("optim.weight_decay", 0.5)
        await press_f(pilot)
        await pilot.press("enter")
        [message] = restarts
        optim = message.config.optim
        assert message.fork and (optim.lr, optim.weight_decay) == (0.05, 0.5)
        assert message.step == 3, "the first checkpoint, since all are later"
        assert "weight_decay" in message.origin and "optim.lr" not in message.origin

        await fork_at(4)
        assert len(restarts) == 2 and restarts[-1].step == 4, "at its checkpoint there is nothing to ask"
        replay.config_pane.set_value("train.steps", 4)
        await press_f(pilot)
        assert isinstance(app.screen, AskLine)


@pytest.mark.parametrize(
    ("key", "value"), [("model.n_layers", 3), pytest.param("data.n_digits", 4, marks=pytest.mark.slow)]
)
async def test_fork_of_a_replay_whose_weights_do_not_fit_is_refused_in_place(
    key: str, value: int, tmp_path: Path, restarts: list[LabScreen.Restart]
) -> None:
    run = run_with_a_change(tmp_path / "run")
    app = LabApp(Pick("replay", str(run.path)))
    async with app.run_test(size=(120, 40)) as pilot:
        replay = app.screen
        assert isinstance(replay, LabScreen)
        await until(pilot, lambda: replay.config_pane.settings is not None)
        replay.config_pane.set_value(key, value)
        await pilot.press("f")
        await until(pilot, lambda: any(f"{key} = {value}" in toast.message for toast in app._notifications))
        assert app.screen is replay and not restarts


async def test_fork_of_a_followed_run_asks_since_the_run_goes_on(
    tmp_path: Path, restarts: list[LabScreen.Restart]
) -> None:
    run = run_with_a_change(tmp_path / "run")
    async with lab(loaded=False, steps=0) as it:
        it.source.role = "steering"
        config = run.trainer_config()
        await it.tell(replace(ready(), path=str(run.path), config=config), started(ready()), update(6))
        it.screen.config_pane.set_value("optim.grad_clip", 2.0)
        await it.press("f")
        await until(it.pilot, lambda: isinstance(it.pilot.app.screen, Ask))
        assert not restarts
        await it.press("enter")
        [message] = restarts
        optim = message.config.optim
        assert (optim.lr, optim.grad_clip) == (0.05, 2.0), "the settings of the checkpoint, and the edits"


async def test_replay_stands_while_its_fork_asks(tmp_path: Path, restarts: list[LabScreen.Restart]) -> None:
    run = run_with_a_change(tmp_path / "run")
    async with lab(loaded=False, steps=0) as it:
        it.source.role = "replay"
        it.source.playback = FakePlayback(position=6)
        config = run.trainer_config()
        await it.tell(replace(ready(), path=str(run.path), config=config), started(ready()), update(2))
        await it.press("f")
        await until(it.pilot, lambda: isinstance(it.pilot.app.screen, Ask))
        assert it.source.sent == [cmd.Pause()]
        await it.pilot.press("escape")
        await until(it.pilot, lambda: it.source.sent == [cmd.Pause(), cmd.Resume()])
        assert not restarts


async def test_fork_names_the_step_at_which_it_starts() -> None:
    async with lab(steps=0) as it:
        it.screen.origin = "forked from reverse-1"
        await it.tell(replace(ready(), past=(started(ready()), update(12))))
        assert [toast.message for toast in it.pilot.app._notifications] == [
            "forked from reverse-1; it starts at step 12"
        ]
