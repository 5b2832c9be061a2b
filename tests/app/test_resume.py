"""A run is resumed where it is opened: `tui-lab app --resume RUN`, and `c` in its replay."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.app.fake import painted
from tests.app.session.helpers import trained
from tests.core.recorded import recorded_script
from tui_lab.app.app import LabApp, pick_to_resume
from tui_lab.app.screens.dialogs import Ask
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.lab import LabScreen
from tui_lab.core import commands as cmd
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError, RunError

MAX_TURNS = 6000


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    for _ in range(MAX_TURNS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never came")


def stopped_run() -> Run:
    """A run that was stopped before its first step."""
    ready, _ = trained(commands=(cmd.Stop(),))
    return Run(Path(ready.path))


async def test_c_in_a_replay_resumes_its_run() -> None:
    run = stopped_run()
    app = LabApp(Pick("replay", str(run.path)))
    async with app.run_test(size=(120, 40)) as pilot:
        replay = app.screen
        assert isinstance(replay, LabScreen)
        await until(pilot, lambda: replay.state.ready is not None)
        lock = run.lock()
        await pilot.press("c")
        assert app.screen is replay and any(run.name in toast.message for toast in app._notifications)
        lock.release()
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen is not replay)
        lab = app.screen
        assert isinstance(lab, LabScreen) and lab.source.role == "training"
        await until(pilot, lambda: lab.state.ending == "done")
        assert lab.state.step == 8 and lab.path == str(run.path)
        lab.source.close()
        await asyncio.to_thread(lab.source.join)


async def test_c_with_edits_asks_and_changes_the_live_ones_in_the_resumed_run() -> None:
    run = stopped_run()
    app = LabApp(Pick("replay", str(run.path)))
    async with app.run_test(size=(120, 40)) as pilot:
        replay = app.screen
        assert isinstance(replay, LabScreen)
        await until(pilot, lambda: replay.config_pane.settings is not None)
        replay.config_pane.set_value("optim.lr", 0.5)
        replay.config_pane.set_value("model.n_layers", 2)
        await pilot.press("c")
        assert isinstance(app.screen, Ask)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen is not replay)
        lab = app.screen
        assert isinstance(lab, LabScreen)
        await until(pilot, lambda: lab.state.ending == "done")
        config = lab.state.trainer_config
        assert config is not None and (config.optim.lr, config.model.n_layers) == (0.5, 1)
        assert [change.step for change in lab.state.changes] == [0]
        lab.source.close()
        await asyncio.to_thread(lab.source.join)


async def test_finished_run_is_replayed_where_it_was_to_be_resumed_and_c_says_how_to_train_on() -> None:
    ready, _ = trained()
    app = LabApp(pick_to_resume(ready.path))
    async with app.run_test(size=(120, 40)) as pilot:
        replay = app.screen
        assert isinstance(replay, LabScreen) and replay.source.role == "replay"
        assert any("--steps" in toast.message for toast in app._notifications)
        app.clear_notifications()
        await until(pilot, lambda: replay.state.ready is not None)
        await pilot.press("c")
        await pilot.pause()
        assert app.screen is replay
        assert any("--steps" in toast.message for toast in app._notifications)
        await until(pilot, lambda: "f fork" in painted(app))
        assert "c resume" not in painted(app)


def test_resuming_is_refused_with_a_reason() -> None:
    run = stopped_run()
    finished, _ = trained()
    assert pick_to_resume(str(run.path)) == Pick("resume", str(run.path))
    assert pick_to_resume(finished.path, 20).steps == 20
    with pytest.raises(ConfigError) as too_few:
        pick_to_resume(finished.path, 3)
    with pytest.raises(RunError) as missing:
        pick_to_resume("nothing")
    lock = run.lock()
    with pytest.raises(RunError) as in_use:
        pick_to_resume(str(run.path))
    lock.release()
    with pytest.raises(RunError) as script:
        pick_to_resume(str(recorded_script(runs.runs_folder() / "script").path))
    codes = [error.value.problems[0].code for error in (too_few, missing, in_use, script)]
    assert codes == ["conflict", "unknown_name", "in_use", "unavailable"]
