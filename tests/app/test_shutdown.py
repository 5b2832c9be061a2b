"""A worker that raises, hangs, or runs out of memory or of numbers leaves the app usable, and says what is saved."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.pilot import Pilot

from tests.app.fake import lab
from tests.core.tiny import tiny
from tui_lab.app import shutdown
from tui_lab.app.app import LEFT_BEHIND, LabApp
from tui_lab.app.screens.chooser import Chooser
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.session.session import Session
from tui_lab.app.widgets.control_filter import OnlyVisible
from tui_lab.core.commands import CommandQueue
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.trainer import Trainer

Meddle = Callable[[Trainer], None]
MANY = 6000


@asynccontextmanager
async def over(meddle: Meddle, *overrides: str) -> AsyncIterator[tuple[LabApp, Pilot[None], LabScreen]]:
    """The app over a real training, its trainer meddled with."""

    def open(report: Any, commands: CommandQueue) -> open_run.OpenRun:
        opened = open_run.start("tiny", tiny("train.steps=1000000", *overrides), commands=commands)
        meddle(opened.trainer)
        return opened

    app = LabApp(grace=0.2)
    async with app.run_test(size=(120, 40)) as pilot:
        app.show_lab(Session(open))
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen.is_mounted)
        screen = app.screen
        assert isinstance(screen, LabScreen)
        yield app, pilot, screen


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    for _ in range(MANY):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never came")


def raising(error: BaseException) -> Meddle:
    def meddle(trainer: Trainer) -> None:
        def step() -> Any:
            raise error

        trainer.train_step = step  # type: ignore[method-assign]

    return meddle


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("a [red]mistake[/nothing]\x1b[31m"), "the training broke off: ValueError"),
        (SystemExit(3), "the training broke off: SystemExit"),
        (RuntimeError("shapes"), "shapes"),
        (MemoryError(), "memory ran out: this training needs at least"),
    ],
    ids=["ValueError", "SystemExit", "RuntimeError", "MemoryError"],
)
async def test_a_worker_that_raises_is_told_and_the_keys_go_on_to_answer(error: BaseException, words: str) -> None:
    async with over(raising(error)) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.phase == "failed")
        assert words in screen.state.ending
        await pilot.press("5", "z", "g", "escape", "2", "w")
        await until(pilot, lambda: isinstance(app.screen, Chooser))


async def test_a_loss_that_is_no_number_is_told_and_a_new_run_can_be_begun() -> None:
    async with over(lambda trainer: None, 'faults=["not_finite"]') as (app, pilot, screen):
        await until(pilot, lambda: screen.state.phase == "failed")
        assert "not finite" in screen.state.ending
        await pilot.press("2", "r")
        await until(pilot, lambda: isinstance(app.screen, LabScreen) and app.screen is not screen)


async def hung(release: threading.Event, keys: tuple[str, ...], after: int) -> tuple[LabApp, str]:
    """Leave, by `keys`, a training whose step number `after` never ends."""

    def meddle(trainer: Trainer) -> None:
        step = trainer.train_step

        def stuck() -> Any:
            if trainer.step >= after:
                release.wait()
            return step()

        trainer.train_step = stuck  # type: ignore[method-assign]

    async with over(meddle, "train.checkpoint_every=3") as (app, pilot, screen):
        await until(pilot, lambda: screen.state.step == after and screen.state.phase == "running")
        path = screen.path
        assert path is not None
        await pilot.press(*keys)

        def said() -> str:
            return " ".join([*(n.message for n in app._notifications), *map(str, app._exit_renderables)])

        await until(pilot, lambda: "left behind" in said())
        return app, said()


@pytest.mark.parametrize(
    ("after", "saved"),
    [(0, "no checkpoint of it was saved yet"), (4, "saved is step 3; go on with: tui-lab run --resume")],
)
async def test_a_worker_that_hangs_is_left_behind_after_a_grace_with_what_is_saved(after: int, saved: str) -> None:
    release = threading.Event()
    try:
        app, said = await hung(release, ("q", "enter"), after)
        assert app.return_code == LEFT_BEHIND and not app.opened
        assert "the training did not answer for" in said and saved in said
    finally:
        release.set()


async def test_from_a_worker_that_hangs_one_can_go_back_to_the_chooser() -> None:
    release = threading.Event()
    try:
        app, said = await hung(release, ("w", "enter"), 4)
        assert "left behind; saved is step 3" in said
    finally:
        release.set()


async def test_who_leaves_while_a_corpus_is_read_need_not_wait_until_it_is() -> None:
    told, reads = threading.Event(), 0

    def open(report: Any, commands: CommandQueue) -> open_run.OpenRun:
        nonlocal reads
        while True:
            reads += 1
            report("reading", reads, 10**9)
            told.set()

    session = Session(open)
    session.start()
    told.wait()
    session.close()
    assert session.join(60.0)


async def test_an_app_that_ends_with_a_training_open_saves_it() -> None:
    async with over(lambda trainer: None) as (app, pilot, screen):
        await until(pilot, lambda: screen.state.step > 3)
        path = screen.path
        app.exit()
    assert app.opened and path is not None
    [told] = shutdown.save_all(list(app.opened))
    assert "go on with: tui-lab run --resume" in told
    assert (summary := runs.find(path).summary()) and summary.reason == "stopped" and runs.find(path).latest().is_dir()


def test_grace_grows_with_a_step() -> None:
    assert shutdown.grace(None) == shutdown.grace(0.01) == shutdown.GRACE_SECONDS
    assert shutdown.grace(60.0) == 600.0
    assert shutdown.unanswered(None, 30.0).endswith("it had not begun, so there is nothing to save")


def test_no_control_character_reaches_the_terminal() -> None:
    segments = [Segment("a\x1b[31m\x07b\u202e"), Segment("plain")]
    shown = OnlyVisible().apply(segments, Color(0, 0, 0))
    assert [segment.text for segment in shown] == ["a[31mb", "plain"]


async def test_what_a_run_calls_itself_is_shown_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "runs\x1b[31m[red]x[link=y]z[/nothing]"
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "there"))
    opened = open_run.start("tiny", tiny(), tmp_path / "there" / "one[bold]\x1b]0;t\x07")
    list(opened.run.record(opened.trainer.events()))
    async with lab() as it:
        it.screen.notify(f"saved {evil}", title=evil)
        await it.tell()
        [toast] = it.pilot.app._notifications
        assert toast.message == "saved runs\\x1b[31m[red]x[link=y]z[/nothing]" and not toast.markup
        app = it.pilot.app
        assert isinstance(app, LabApp)
        it.source.items = []
        app.pop_screen()
        await it.pilot.pause()
        chooser = app.screen
        assert isinstance(chooser, Chooser)
        chooser.load()
        await it.pilot.pause()
        shown = it.painted()
        assert "one[bold]\\x1b]0;t" in shown and "\x1b" not in shown
