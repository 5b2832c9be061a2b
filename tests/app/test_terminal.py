"""However the app ends, the terminal is restored and the run is saved: in a real pseudo-terminal."""

import json
import os
import re
import signal
import termios
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest

from tests.app.test_end_to_end import RESUME, Person, assert_restored
from tui_lab.bench.pseudo_terminal import Terminal
from tui_lab.core.config import settings
from tui_lab.core.runs.folder import Run

TINY = (
    "data.length=3",
    "data.n_digits=5",
    "model.d_model=8",
    "model.n_layers=1",
    "model.d_ff=8",
    "train.steps=1000000",
    "train.eval_examples=8",
    "train.eval_every=0",
    "train.threads=1",
)
FAULTY = (
    "-c",
    "from tui_lab.app.screens.run_controls import RunControls\n"
    "def broken(self): raise ZeroDivisionError('oh')\n"
    "RunControls.pause_or_resume = broken\n"
    "from tui_lab.cli.main import main\n"
    "main()",
)
"""The app with an error behind the Space key."""


def begin(folder: Path, program: tuple[str, ...] = ("-m", "tui_lab")) -> Person:
    """Start the app over a run, and wait for its first step."""
    (folder / "tiny.toml").write_text(settings.to_toml(settings.load("reverse", TINY)), "utf-8")
    person = Person(folder, "app", "tiny.toml", program=program)
    person.wait_until(lambda screen: step_in(screen) > 0)
    return person


def step_in(screen: str) -> int:
    match = re.search(r"step ([\d,]+)/", screen)
    return int(match[1].replace(",", "")) if match else 0


def saved(folder: Path) -> Run:
    """Return the only run, after checks that it can be resumed from where it was stopped."""
    [path] = (folder / "runs").iterdir()
    run = Run(path)
    assert json.loads((path / "summary.json").read_text("utf-8"))["reason"] == "stopped"
    assert int(run.latest().name.removeprefix("step-")) == max(event.step for event in run.events())
    return run


def quit_by_key(person: Person) -> None:
    person.press("q")
    person.wait_for("Stop and save")
    person.press("\r")


@pytest.mark.parametrize(
    ("end", "code", "text"),
    [
        pytest.param(quit_by_key, 0, RESUME, marks=pytest.mark.slow),
        pytest.param(lambda person: person.press("\x11"), 0, RESUME, marks=pytest.mark.slow),
        pytest.param(lambda person: person.terminal.signal(signal.SIGHUP), 129, RESUME, marks=pytest.mark.slow),
        pytest.param(lambda person: person.press(" "), 1, "ZeroDivisionError", marks=pytest.mark.slow),
    ],
    ids=["q", "ctrl+q", "SIGHUP", "error in the app"],
)
def test_terminal_is_restored_and_the_run_is_saved(
    end: Callable[[Person], None], code: int, text: str, tmp_path: Path
) -> None:
    person = begin(tmp_path, FAULTY)
    end(person)
    assert person.leave() == code
    assert_restored(person.raw, text)
    saved(tmp_path)


@pytest.mark.slow
def test_typed_keys_are_echoed_after_the_end(tmp_path: Path) -> None:
    person = begin(tmp_path)
    raw = person.terminal.settings()
    person.terminal.signal(signal.SIGTERM)
    while person.terminal.settings() == raw:
        person.raw += person.terminal.read(0.05)
    assert person.terminal.settings()[3] & (8 | 2) == 8 | 2, "ECHO and ICANON"
    person.leave()


@pytest.mark.slow
def test_closed_terminal_does_not_lose_the_run(tmp_path: Path) -> None:
    person = begin(tmp_path)
    person.terminal.hang_up()
    assert person.terminal.end() != -signal.SIGHUP, "it was not simply ended"
    saved(tmp_path)


@pytest.mark.slow
def test_ctrl_z_suspends_and_fg_resumes_the_app(tmp_path: Path) -> None:
    person = begin(tmp_path)
    person.press("\x1a")
    person.raw += person.terminal.read(1.0)
    _, status = os.waitpid(person.terminal.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    person.raw += person.terminal.read(0.2)
    assert b"\x1b[?1049l" in person.raw, "the shell has its screen"
    assert person.terminal.settings()[3] & (8 | 2) == 8 | 2, "and what is typed is echoed"
    before = step_in(person.sees)
    person.terminal.signal(signal.SIGCONT)
    person.screen = pyte.Screen(100, 32)
    person.stream = pyte.ByteStream(person.screen)
    screen = person.wait_until(lambda screen: step_in(screen) > before and "1 Config" in screen and "ln V" in screen)
    assert "▶ running" in screen
    person.press("q")
    person.wait_for("Stop and save")
    person.press("\r")
    assert person.leave() == 0
    saved(tmp_path)


@pytest.mark.slow
def test_app_that_was_stopped_and_continued_takes_the_terminal_again(tmp_path: Path) -> None:
    person = Person(tmp_path)
    person.wait_for("Presets")
    person.terminal.signal(signal.SIGSTOP)
    person.terminal.read(0.2)
    set_shell_modes(person.terminal)
    person.raw = b""
    person.terminal.signal(signal.SIGCONT)
    person.wait_until(lambda screen: b"Presets" in person.raw.partition(b"\x1b[?1049h")[2])
    person.press("?")
    person.wait_for("All keys")
    person.press("\x1b")
    person.wait_for("Presets")
    person.press("q")
    assert person.leave() == 0


def set_shell_modes(terminal: Terminal) -> None:
    """Set the modes of a terminal as a shell does that shows its prompt: lines, and an echo."""
    modes = terminal.settings()
    modes[3] |= termios.ECHO | termios.ICANON | termios.ISIG
    termios.tcsetattr(terminal._fd, termios.TCSANOW, modes)
