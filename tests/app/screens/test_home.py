"""Home: what a new user reads, and what is listed of a run."""

import os
from pathlib import Path

import pytest
from textual.widgets import OptionList, Static
from textual.widgets._toast import Toast

from tests.app.fake import lab, painted
from tests.app.run_folders import folder
from tests.core.recorded import recorded, story
from tui_lab.app.app import LabApp
from tui_lab.app.screens.dialogs import Ask, Choice
from tui_lab.app.screens.home_text import HINTS, ListedRun, listed_run
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.events import Stopped
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files

LONG_NAME = "confusion-3-with-another-learning-rate-fork-20261126-032804"


async def test_hints_for_a_new_user_until_the_first_run_exists() -> None:
    app = LabApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        hints = app.screen.query_one("#hints", Static)
        assert hints.display and hints.size.height == len(HINTS)
        assert max(map(len, HINTS)) <= hints.size.width
        folder("one", 0.5)
        app.screen.load()  # type: ignore[attr-defined]
        await pilot.pause()
        assert not hints.display


@pytest.mark.parametrize("size", [(80, 24), pytest.param((120, 40), marks=pytest.mark.slow)])
async def test_whole_description_of_every_preset_is_visible(size: tuple[int, int]) -> None:
    app = LabApp()
    async with app.run_test(size=size) as pilot:
        for preset in settings.presets().values():
            await pilot.pause()
            screen = " ".join(painted(app).replace("│", "").split())
            assert [line for line in preset.header if " ".join(line.split()) not in screen] == []
            await pilot.press("down")


async def test_runs_are_listed_with_their_state_steps_loss_and_date() -> None:
    ended = folder(LONG_NAME, 0.5, reason="stopped")
    os.utime(ended.path / run_files.CONFIG, (0, 1_700_000_000))
    app = LabApp()
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await pilot.pause()
        app.notify("saved")
        await pilot.pause()
        assert app.screen.query_one(Toast).region.bottom <= app.screen.query_one("#about").region.y
        [line] = [line for line in painted(app).splitlines() if "032804" in line]
        assert LONG_NAME not in line and "confusion-3-with" in line and "…" in line
        for part in (" stopped ", " 8 ", "val 0.6", "exact 25%", "2023-11-1"):
            assert part in line
        await pilot.press("end")
        assert LONG_NAME in painted(app) and "Resume" in painted(app) and "Enter Open" in painted(app).splitlines()[-1]
        await pilot.press("home")
        assert "Resume" not in painted(app).splitlines()[-1], "a preset cannot be resumed"
        folder("done", 0.5)
        app.screen.load()  # type: ignore[attr-defined]
        await pilot.press("end", "up")
        assert "--steps N" in painted(app) and "Resume" not in painted(app).splitlines()[-1]
        lock = ended.lock()
        await pilot.press("end")
        assert "follow it live" in painted(app) and "Resume" not in painted(app).splitlines()[-1]
        lock.release()


def test_results_of_a_run_that_trains_on_are_not_those_of_its_old_summary() -> None:
    """The summary is of the first end; since then the run was resumed and killed."""
    run = recorded(runs.runs_folder() / "resumed")
    assert (listed_run(run).state, listed_run(run).steps) == ("done", 8)
    longer = recorded(
        runs.runs_folder() / "longer", (e for e in story(12) if not isinstance(e, Stopped)), summary=False
    )
    (run.path / run_files.DIGEST).unlink()
    (run.path / run_files.EVENTS).write_bytes((longer.path / run_files.EVENTS).read_bytes())
    os.utime(run.path / run_files.SUMMARY, (0, 0))
    assert (listed_run(run).state, listed_run(run).steps) == ("interrupted", 12)
    lock = run.lock()
    assert listed_run(run).state == "running"
    lock.release()


def test_line_of_a_run_has_whole_names_and_spaces_between_columns() -> None:
    name = "reverse-20261126-193602-fork-20261126-194048"
    for metric in ("exact 99.96%", "ppl 9.999e12"):
        run = ListedRun(Path(name), "interrupted", 100_000, "loss 8.034e-5", metric, 1_700_000_000.0)
        line = run.line(110, 1_800_000_000.0, len(name)).plain
        assert line.split() == [name, "interrupted", "100,000", *["loss", "8.034e-5"], *metric.split(), "2023-11-14"]
        assert len(line) <= 110


async def test_list_keeps_its_size_after_a_lab_a_theme_and_a_dialog() -> None:
    """B5: rules of the dialogs' style sheet must not apply to Home."""
    app = LabApp()
    async with app.run_test(size=(120, 40)) as pilot:
        folder("one", 0.5)
        await pilot.pause()
        choices = app.screen.query_one(OptionList)
        before = choices.size
        for theme in ("textual-light", "textual-dark"):
            await app.push_screen(Ask("Stop?", (Choice("stop", "Stop and save"),)))
            app.theme = theme
            await pilot.press("escape")
            await pilot.pause()
            assert app.screen is choices.screen and choices.size == before


async def test_lab_of_the_first_run_begins_with_hints_that_go_away() -> None:
    async with lab(is_first=True, steps=0) as it:
        assert "Space pauses · s one step" in it.text("#run-line")
        await it.tell(ev.Paused(step=1))
        assert "Space resumes · s one step" in it.text("#run-line")
        await it.tell(ev.Resumed(step=1))
        assert "Space pauses · s one step" in it.text("#run-line")
        await it.press("s", "3")
        line = it.text("#run-line")
        assert "one step" not in line and "its examples" not in line and "K looks for mistakes" in line
        it.now[0] += 60.0
        await it.tell()
        assert not it.screen.query_one("#run-line").display
