"""The strip over a lab whose runs are fake: its keys, its pages, what it starts, and leaving."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from textual.message import Message
from textual.widgets import Static

from tests.app.fake import AppWithoutHome, FakeSource, Lab, help_text, ready, started, update
from tests.app.learn.test_guide import SMALL
from tests.app.panes.test_doctor import SOFTMAX_TWICE, report
from tui_lab.app.learn.controller import LessonController
from tui_lab.app.learn.list_screen import LearnScreen, state_text
from tui_lab.app.learn.screen import LessonScreen
from tui_lab.app.learn.strip import NumberField
from tui_lab.app.learn.trials import Trial, Trials
from tui_lab.app.screens.help import Help
from tui_lab.app.session.messages import Diagnosed, Ready
from tui_lab.app.widgets.footer import ChosenKeyLine
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.lessons.load import load_lesson
from tui_lab.core.lessons.progress import Progress, load_progress
from tui_lab.core.runs import run_files


def progress_at(stage: str) -> Progress:
    progress = load_progress(load_lesson(SMALL))
    progress.go_to(stage)
    progress.save()
    return progress


def fake_run(folder: Path) -> Ready:
    """Make a folder that is a run, and return that it is open."""
    opened = ready("confusion-3")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / run_files.CONFIG).write_text(settings.to_toml(settings.load("confusion-3")), "utf-8")
    return replace(opened, path=str(folder))


def fake_trials(trials: Sequence[Trial]) -> Trials:
    """Trials whose runs have two steps, at once."""

    def make(name: str, config: object, folder: Path) -> FakeSource:
        opened = fake_run(folder)
        end = ev.Stopped(step=2, reason="done")
        return FakeSource([opened, started(opened), update(1, 10.8), update(2, 10.8), end])

    return Trials(trials, make)


@asynccontextmanager
async def lesson(stage: str, size: tuple[int, int] = (80, 24)) -> AsyncIterator[tuple[Lab, LessonController]]:
    """The lab of the small lesson at a stage; its run is paused before the first step."""
    progress = progress_at(stage)
    source, now = FakeSource(), [0.0]
    app = AppWithoutHome(clock=lambda: now[0])
    async with app.run_test(size=size) as pilot:
        controller = LessonController(progress, fake_trials)
        screen = LessonScreen(controller, source, lambda: now[0], memory=lambda: 2**28)
        screen.prepared, screen.prepared_folder = "see", progress.new_run_folder("see")
        opened = fake_run(screen.prepared_folder)
        it = Lab(pilot, screen, source, now, settings.load("confusion-3"))
        with app.batch_update():  # Lays out once, and not after each message.
            await app.push_screen(LearnScreen())
            await app.push_screen(screen)
            await it.tell(opened, started(opened), ev.Paused(step=0))
        await pilot.pause()
        yield it, controller


async def run_is_closed(it: Lab) -> None:
    """Wait for the list of lessons, which is shown once threads have stopped and saved the run."""
    while not isinstance(it.pilot.app.screen, LearnScreen):
        await it.pilot.pause()


def strip(it: Lab) -> str:
    return "\n".join(str(it.screen.query_one(name, Static).content) for name in ("#lesson-body", "#lesson-bar"))


def last_line(it: Lab) -> list[tuple[str, str]]:
    """The keys in the last line, and what they do."""
    return [(item.shown, item.label) for item in it.screen.query_one(ChosenKeyLine).items()]


async def test_question_then_run_then_trials_and_the_strip_covers_nothing() -> None:
    async with lesson("see") as (it, controller):
        assert it.screen.query_one("#lesson").region.bottom == it.screen.area.region.y
        assert it.screen.area.region.height >= 12
        await it.press("enter")
        assert "type a number" in strip(it)
        await it.press("9", "comma", "0", "enter")  # A decimal comma, as in much of Europe.
        assert "Enter: train it" in strip(it)
        assert [guess.value for guess in it.screen.loss_pane.backdrop.guesses] == [9]
        assert cmd.Resume() not in it.source.sent
        await it.press("enter")
        assert cmd.Resume() in it.source.sent
        await it.tell(ev.Resumed(step=0), update(1, 10.82), update(2, 10.81))
        assert "step 2/200 · loss 10.81 · 0% of the way to 0" in strip(it)
        await it.tell(ev.Stopped(step=2, reason="done"))
        assert "✗ Your guess: 9 · right: 10.82" in strip(it)
        assert "1/6 see ✓" in strip(it)

        await it.press("enter")
        assert "Enter: train them" in strip(it)
        await it.press("enter")
        for _ in range(6):  # A tick for each start and each end of a trial.
            await it.tell()
        assert "2/6 try ✓" in strip(it)
        assert [overlay.name for overlay in it.screen.loss_pane.overlays] == ["lr 0.03", "lr 1"]

        await it.press("g")
        assert "learning rate" in help_text(it.pilot.app.screen).lower()
        await it.press("escape", "w")
        await run_is_closed(it)
        assert state_text(load_progress(load_lesson(SMALL))) == "stage 2 of 6"


async def test_guess_comes_before_the_doctor_and_a_fix_has_no_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with lesson("diagnose", (120, 40)) as (it, controller):
        assert it.screen.config_pane.settings is not None
        assert it.screen.config_pane.settings.shown_value("faults") == "2 planted"
        assert ("1–4", "Answer") in last_line(it)
        await it.press("n")
        assert "4/6 diagnose" in strip(it) and "answer with 1 to 4 · n skips it" in strip(it)
        await it.press("1")
        assert "Enter: diagnose" in strip(it)
        assert ("Enter", "Go on") in last_line(it)
        assert it.screen.is_current, "1 is an answer, and not a pane, while the strip has the focus"
        controller.receive(Diagnosed(it.config, report(SOFTMAX_TWICE)))
        assert "✗ 1 The learning rate" in strip(it)
        assert controller.guide.done.finding == "double_softmax"
        assert load_progress(load_lesson(SMALL)).of("diagnose").report["findings"]
        for pane in "1234567":
            await it.press("escape", pane, "escape")
            assert it.screen.focused is it.screen.query_one("#lesson"), f"pane {pane} does not keep Esc"
        await it.press("g")
        assert it.screen.active_pane.number == 7, "g without a term goes nowhere"
        await it.press("p", "n", "n")
        assert "5/6 fix" in strip(it)
        restarts: list[Message] = []
        post = it.screen.post_message

        def keep_restart(message: Message) -> bool:
            if isinstance(message, LessonScreen.Restart):
                restarts.append(message)
                return True
            return post(message)

        monkeypatch.setattr(it.screen, "post_message", keep_restart)
        controller.enter()
        (restart,) = restarts
        assert isinstance(restart, LessonScreen.Restart) and restart.config.faults == ()


async def test_batch_has_the_room_of_the_other_panes_where_a_stage_is_about_it() -> None:
    async with lesson("look", (120, 40)) as (it, _):
        assert isinstance(it.screen, LessonScreen)
        it.screen.prepared = ""  # As if the run of the first stage had been started.
        await it.press("p", "n")
        assert [pane.id for pane in it.screen.panes if pane.region.area] == ["batch"]
        await it.press("p")
        assert "2/6 try" in strip(it)
        assert len([pane for pane in it.screen.panes if pane.region.area]) > 3


async def test_number_field_leaves_letters_to_the_lesson_and_a_run_that_was_not_started_leaves_no_folder() -> None:
    async with lesson("see") as (it, controller):
        assert isinstance(it.screen, LessonScreen)
        folder = it.screen.prepared_folder
        assert folder is not None and folder.is_dir()
        await it.press("enter", "2", "full_stop", "n")
        field = it.screen.focused
        assert isinstance(field, NumberField) and field.value == "2."
        assert "type a number, then Enter · n skips it" in strip(it)
        assert ("w", "Lessons") in last_line(it)
        await it.press("p")
        assert "1/6 see" in strip(it) and "Enter: the question" in strip(it)
        await it.press("n")
        assert "2/6 try" in strip(it)
        await it.press("p", "enter", "question_mark")
        assert isinstance(it.pilot.app.screen, Help)
        await it.press("escape", "w")
        await run_is_closed(it)
        assert not folder.exists()
