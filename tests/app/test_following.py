"""Two processes: one trains without an app, the other follows and steers it in the app."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.app.test_end_to_end import PATIENCE, Person
from tests.process import TINY
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.run_files import LOCK
from tui_lab.util.child import child_environment, python_module

LR = settings.load("reverse").optim.lr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A run that another process trains for as long as the test needs it."""
    folder = tmp_path / "runs" / "followed"
    steps = ("--set", "train.steps=100000000", "--set", "train.checkpoint_every=50", "--set", "optim.schedule=constant")
    done = subprocess.run(
        python_module("tui_lab", "run", "reverse", *TINY, *steps, "--out", str(folder), "--detach"),
        env=child_environment(TUI_LAB_RUNS=str(tmp_path / "runs")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(folder)
    yield folder
    if holder := in_use(folder):
        os.kill(holder.pid, signal.SIGKILL)


def changes(folder: Path) -> list[tuple[float, float]]:
    return [(event.old, event.new) for event in Run(folder).events() if isinstance(event, ev.Changed)]


@pytest.mark.slow
def test_a_run_of_another_process_is_followed_steered_and_stopped(folder: Path, tmp_path: Path) -> None:
    first = Person(tmp_path, "app", str(folder))
    first.wait_for("trained by process")
    first.wait_for("▶ running")
    first.press("LLL")
    first.wait_for(f" {8 * LR:g} ")
    first.press(" ")
    first.wait_for("paused")
    first.terminal.kill()

    second = Person(tmp_path, "app", str(folder))
    second.wait_for("paused")
    second.press("uuu ")
    second.wait_for("▶ running")
    second.press("q")
    second.wait_for("Stop it and save")
    second.press("\x1b[B\r")
    assert second.leave() == 0
    assert changes(folder) == [
        (LR, 2 * LR), (2 * LR, 4 * LR), (4 * LR, 8 * LR), (8 * LR, 4 * LR), (4 * LR, 2 * LR), (2 * LR, LR),
    ]  # fmt: skip
    with FileLock(folder / LOCK, timeout=PATIENCE):
        assert [event for event in Run(folder).events() if isinstance(event, ev.Stopped)]
    assert Run(folder).has_checkpoint


@pytest.mark.slow
def test_the_app_shows_that_the_training_process_was_killed(folder: Path, tmp_path: Path) -> None:
    person = Person(tmp_path, "app", str(folder))
    person.wait_for("▶ running")
    holder = in_use(folder)
    assert holder is not None
    os.kill(holder.pid, signal.SIGKILL)
    person.wait_for("exited before")
    person.press("q")
    assert person.leave() == 0
