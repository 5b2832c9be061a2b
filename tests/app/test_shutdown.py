"""Training that raises, hangs or runs out of memory leaves the app usable, and the user learns what is saved."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.pilot import Pilot

from tests.app.fake import FakeSource, lab, ready, started
from tests.core.tiny import tiny, trainer_and_run
from tui_lab.app import shutdown
from tui_lab.app.app import LabApp
from tui_lab.app.screens.home import Home
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.session.messages import Waiting
from tui_lab.app.session.session import Session
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState, Phase
from tui_lab.app.widgets.control_filter import ControlFilter
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.commands import CommandQueue
from tui_lab.core.config import settings
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.runs.summary import Summarizer
from tui_lab.core.training.step_time import StepTime
from tui_lab.core.training.trainer import Trainer
from tui_lab.util.exit_codes import FAILED

Change = Callable[[Trainer], None]
"""Breaks a trainer."""
MAX_TURNS = 6000


@asynccontextmanager
async def app_over(
    change: Change, *overrides: str, paused: bool = False
) -> AsyncIterator[tuple[LabApp, Pilot[None], LabScreen]]:
    """The app over a real training, after `change` of its trainer."""

    def open(report: Any, commands: CommandQueue) -> open_run.OpenRun:
        opened = open_run.start("tiny", tiny("train.steps=1000000", *overrides), commands=commands)
        change(opened.trainer)
        return opened

    app = LabApp(grace=0.2)
    async with app.run_test(size=(120, 40)) as pilot:
        session = Session(open, paused=paused)
        session.removes_unused = True
        app.show_lab(session)
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen.is_mounted)
        screen = app.screen
        assert isinstance(screen, LabScreen)
        yield app, pilot, screen


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    for _ in range(MAX_TURNS):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never came")


def raising(error: BaseException) -> Change:
    def change(trainer: Trainer) -> None:
        def step() -> Any:
            raise error

        trainer.train_step = step  # type: ignore[method-assign]

    return change


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a [red]mistake[/nothing]\x1b[31m"), "ValueError"),
        pytest.param(SystemExit(3), "SystemExit", marks=pytest.mark.slow),
        pytest.param(MemoryError(), "memory", marks=pytest.mark.slow),
    ],
    ids=["ValueError", "SystemExit", "MemoryError"],
)
async def test_failed_training_is_reported_and_the_keys_still_work(error: BaseException, text: str) -> None:
    async with app_over(raising(error)) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.phase == "failed")
        assert text in screen.state.ending
        await pilot.press("5", "z", "g", "escape", "2", "w")
        await until(pilot, lambda: isinstance(app.screen, Home))


@pytest.mark.slow
async def test_restart_after_a_loss_that_is_not_finite() -> None:
    async with app_over(lambda trainer: None, 'faults=["not_finite"]') as (app, pilot, screen):
        await until(pilot, lambda: screen.state.phase == "failed")
        assert "not finite" in screen.state.ending
        await pilot.press("2", "r")
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen is not screen)


async def quit_while_hung(release: threading.Event, keys: tuple[str, ...], hangs_at: int) -> tuple[LabApp, list[str]]:
    """Press `keys` while step number `hangs_at` hangs; return the app and its messages once training is abandoned."""

    def change(trainer: Trainer) -> None:
        train_step = trainer.train_step

        def hang() -> Any:
            if trainer.step >= hangs_at:
                release.wait()
            return train_step()

        trainer.train_step = hang  # type: ignore[method-assign]

    async with app_over(change, "train.checkpoint_every=3") as (app, pilot, screen):
        await until(pilot, lambda: screen.state.step == hangs_at and screen.state.phase == "running")
        await pilot.press(*keys)

        def abandoned() -> list[str]:
            messages = [*(toast.message for toast in app._notifications), *app.exit_lines]
            return [message for message in messages if "stopped waiting" in message]

        await until(pilot, lambda: bool(abandoned()))
        return app, abandoned()


async def test_hung_training_is_abandoned_with_its_last_checkpoint() -> None:
    release = threading.Event()
    try:
        app, [message] = await quit_while_hung(release, ("q", "enter"), 4)
        assert app.return_code == FAILED and not app.opened
        assert "step 3. Resume with: tui-lab app --resume" in message
    finally:
        release.set()


@pytest.mark.slow
async def test_hung_training_does_not_keep_the_user_from_going_home() -> None:
    release = threading.Event()
    try:
        app, [message] = await quit_while_hung(release, ("w", "enter"), 4)
        assert "step 3" in message and app.return_code is None
    finally:
        release.set()


async def test_closing_does_not_wait_for_a_corpus_that_is_being_read() -> None:
    reading = threading.Event()
    n_reports = 0

    def open(report: Any, commands: CommandQueue) -> open_run.OpenRun:
        nonlocal n_reports
        while True:
            n_reports += 1
            report("reading", n_reports, 10**9)
            reading.set()

    session = Session(open)
    session.start()
    reading.wait()
    session.close()
    assert session.join(60.0)


async def test_quit_key_saves_and_says_how_to_resume() -> None:
    async with app_over(lambda trainer: None) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.step > 3)
        await pilot.press("q", "enter")
        await until(pilot, lambda: bool(app.exit_lines))
    assert app.exit_lines == [shutdown.saved_line(str(screen.path))] and app.return_code == 0
    in_app, without_app = (app.exit_lines[0].find(f"tui-lab {name} --resume {screen.path}") for name in ("app", "run"))
    assert 0 < in_app < without_app


@pytest.mark.parametrize(("steps", "more"), [(3, True), (8, False)])
def test_line_of_a_finished_run_offers_more_steps(tmp_path: Path, steps: int, more: bool) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.steps=3")
    training.commands.put(cmd.Set("train.steps", steps))
    summarizer = Summarizer()
    for event in run.record(training.events()):
        summarizer.update(event)
        if isinstance(event, ev.StepDone) and event.step == 3 and not more:
            training.commands.put(cmd.Stop())
    run.write_summary(summarizer.summary(str(run.path)))
    line = shutdown.saved_line(str(run.path))
    assert f"tui-lab app --resume {run.path}" in line and ("--steps" in line) == more


@dataclass
class LabOverScript:
    """A lab that follows a script, as far as the end of the app needs it."""

    state: LabState
    source: Source
    resumed_to_detach: bool = False
    path: str | None = None


@pytest.mark.parametrize(
    ("phase", "command", "is_canceled"),
    [
        ("waiting", cmd.Pause(), True),
        ("running", cmd.Pause(), True),
        ("running", cmd.Step(10), True),
        ("running", cmd.Save(), False),
        ("paused", cmd.Pause(), False),
    ],
)
def test_script_trains_on_without_its_app_unless_it_has_paused(
    phase: Phase, command: cmd.Command, is_canceled: bool
) -> None:
    source = FakeSource(role="steering")
    lab = LabOverScript(LabState(phase=phase, waiting=Waiting("train-1", "runs/train-1", 1.0)), source)
    lab.state.requested_pause.sent(command, 0, paused=False)
    shutdown.save_all([lab])
    [line] = shutdown.save_all([lab])  # After a signal it is called by two threads.
    assert source.closed and source.sent == ([cmd.Resume()] if is_canceled else [])
    assert ("stays paused" if phase == "paused" else "continues") in line


def test_each_run_is_saved_whatever_goes_wrong_with_another(tmp_path: Path) -> None:
    class Broken(FakeSource):
        def close(self) -> None:
            raise RuntimeError("broken")

    copy = tmp_path / "run" / "checkpoints" / "step-00000020-copy"
    copy.mkdir(parents=True)
    source = FakeSource()
    labs = [LabOverScript(LabState(), Broken()), LabOverScript(LabState(), source, path=str(copy.parent.parent))]
    problem, *_, line = shutdown.save_all(list(labs))
    assert source.closed and "broken" in problem and "step 20." in line


def test_signal_ends_the_app_whatever_goes_wrong_before(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        pass

    def labs() -> NoReturn:
        raise Broken

    exits: list[bool] = []
    signals = shutdown.EndingSignals(labs, lambda: exits.append(True))
    signals.app_ended()
    with pytest.raises(Broken):
        signals._end()
    assert exits


@pytest.mark.parametrize("key", ["q", pytest.param("w", marks=pytest.mark.slow)])
async def test_run_without_a_step_is_not_kept_and_that_is_said(key: str) -> None:
    async with app_over(lambda trainer: None, paused=True) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.phase == "paused")
        await pilot.press(key)
        await until(pilot, lambda: not app.opened and bool(app.exit_lines or app._notifications))
        assert shutdown.NO_STEP in [*app.exit_lines, *(toast.message for toast in app._notifications)]
        assert screen.path is not None and not Path(screen.path).exists()


@pytest.mark.slow
async def test_run_that_is_forked_before_its_first_step_is_kept() -> None:
    async with app_over(lambda trainer: None, paused=True) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.phase == "paused")
        await pilot.press("f")
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen is not screen)
        fork = app.screen
        assert isinstance(fork, LabScreen)
        await until(pilot, lambda: fork.state.ready is not None)
        assert screen.path is not None and Path(screen.path).exists()
        fork.source.close()
        await asyncio.to_thread(fork.source.join)


async def test_leaving_a_run_that_is_being_opened_says_that_nothing_was_trained() -> None:
    pause = threading.Event()

    def open(report: Any, commands: CommandQueue) -> open_run.OpenRun:
        while True:
            report("starting", 0, 1)
            pause.wait(0.01)

    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        app.show_lab(Session(open))
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen.state.doing == "starting")
        await pilot.press("q")
        await until(pilot, lambda: bool(app.exit_lines))
    assert app.exit_lines == [shutdown.NOT_OPEN]


async def test_ctrl_c_at_home_quits() -> None:
    app = LabApp()
    async with app.run_test() as pilot:
        await pilot.press("ctrl+c")
    assert app.return_code == 0 and not app.exit_lines


async def test_training_that_is_open_at_the_end_of_the_app_is_saved() -> None:
    async with app_over(lambda trainer: None) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.step > 3)
        path = screen.path
        app.exit()
    assert app.opened and path is not None
    [line] = shutdown.save_all(list(app.opened))
    assert f"tui-lab run --resume {path}" in line
    assert (summary := runs.find(path).summary()) and summary.reason == "stopped" and runs.find(path).latest().is_dir()


def test_grace_grows_with_the_duration_of_a_step() -> None:
    assert shutdown.grace(StepTime()) == shutdown.grace(StepTime(seconds=0.01)) == shutdown.GRACE_SECONDS
    assert shutdown.grace(StepTime(seconds=60.0)) == 600.0
    compiling = StepTime(config=settings.load("reverse", ["train.compile=true"]))
    compiling.add(started(ready()))
    assert shutdown.grace(compiling) == shutdown.SECONDS_TO_COMPILE
    assert "no checkpoint" in shutdown.abandoned_line(None, 30.0)


def test_no_control_character_reaches_the_terminal() -> None:
    segments = [Segment("a\x1b[31m\x07b\u202e"), Segment("plain")]
    shown = ControlFilter().apply(segments, Color(0, 0, 0))
    assert [segment.text for segment in shown] == ["a[31mb", "plain"]


async def test_names_of_runs_are_shown_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "runs\x1b[31m[red]x[link=y]z[/nothing]"
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "there"))
    opened = open_run.start("tiny", tiny(), tmp_path / "there" / "one[bold]\x1b]0;t\x07")
    list(opened.run.record(opened.trainer.events()))
    async with lab(home=True) as it:
        it.screen.notify(f"saved {evil}", title=evil)
        await it.tell()
        [toast] = it.pilot.app._notifications
        assert toast.message == "saved runs\\x1b[31m[red]x[link=y]z[/nothing]" and not toast.markup
        app = it.pilot.app
        assert isinstance(app, LabApp)
        it.source.items = []
        app.pop_screen()
        await it.pilot.pause()
        home = app.screen
        assert isinstance(home, Home)
        home.load()
        await it.pilot.pause()
        shown = it.painted()
        assert "one[bold]\\x1b]0;t" in shown and "\x1b" not in shown
