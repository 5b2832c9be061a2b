"""The real app in a pseudo-terminal, used as a person uses it."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest

from tests.core.tiny import trainer_and_run
from tui_lab.bench.pseudo_terminal import Terminal
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summarizer
from tui_lab.util.exit_codes import of_signal

PATIENCE = 60.0
"""Seconds to wait for what must come; not a measure of speed."""
RESTORED = ("\x1b[?1049l", "\x1b[?25h", "\x1b[?1000l", "\x1b[?1003l", "\x1b[?2004l", "\x1b[?7h", "\x1b[<u")
"""The sequences for: main screen, cursor, no mouse, no bracketed paste, wrapped lines, plain keys."""
RESUME = "Resume with: tui-lab app --resume"


class Person:
    """Presses keys, and waits until the screen shows something."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        program: tuple[str, ...] = ("-m", "tui_lab"),
        size: tuple[int, int] = (100, 32),
    ) -> None:
        self.terminal = Terminal(
            [sys.executable, *program, *arguments], size, folder, TUI_LAB_RUNS=str(folder / "runs")
        )
        self.screen = pyte.Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.has_ended = False

    @property
    def sees(self) -> str:
        return "\n".join(self.screen.display)

    def wait_until(self, condition: Callable[[str], bool]) -> str:
        for _ in range(int(PATIENCE / 0.05)):
            output = self.terminal.read(0.05)
            self.raw += output
            self.stream.feed(output)
            if condition(self.sees):
                return self.sees
        raise AssertionError(f"never came:\n{self.sees}")

    def wait_for(self, text: str) -> str:
        return self.wait_until(lambda screen: text in screen)

    def press(self, keys: str) -> None:
        self.terminal.send(keys)

    def leave(self) -> int:
        """Wait until the program has ended; return its exit code."""
        self.raw += self.terminal.read(PATIENCE)
        return self.end()

    def end(self) -> int:
        """Return the exit code of a program that writes nothing more."""
        self.has_ended = True
        return self.terminal.end()

    def kill(self) -> None:
        self.has_ended = True
        self.terminal.kill()


def assert_restored(output: bytes, text: str) -> None:
    """The terminal is as it was before the app, which then wrote `text`."""
    for sequence in RESTORED:
        assert sequence.encode() in output, f"{sequence!r} was never sent"
    assert text in output[output.rindex(b"\x1b[?1049l") :].decode()


def test_start_pause_change_generate_and_end_by_a_signal(tmp_path: Path) -> None:
    person = Person(tmp_path)
    person.wait_for("Presets")
    person.press("\x1b[B" * list(settings.presets()).index("reverse") + "\r")
    person.wait_for("▶ running")
    person.wait_for("ln V 2.303")
    person.press(" ")
    person.wait_for("paused")
    person.press("L")
    person.wait_for("optim.lr 0.002 → 0.004 at")
    person.press("g")
    person.wait_until(lambda screen: "✓ right" in screen or "✗ expected" in screen)
    person.press(" ")
    person.wait_for("▶ running")
    person.terminal.signal(signal.SIGTERM)
    assert person.leave() == of_signal(signal.SIGTERM)
    assert_restored(person.raw, RESUME)

    [folder] = (tmp_path / "runs").iterdir()
    changes = [event.to_json() for event in Run(folder).events() if event.kind == "changed"]
    assert [(c["key"], c["new"]) for c in changes] == [("optim.lr", 2 * settings.load("reverse").optim.lr)]
    assert json.loads((folder / "summary.json").read_text("utf-8"))["reason"] == "stopped"
    assert Run(folder).latest().is_dir()


@pytest.mark.slow
def test_finished_run_is_replayed(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", "train.steps=30", "optim.lr=0.002")
    training.commands.put(cmd.Set("optim.lr", 0.004))
    summarizer = Summarizer()
    for event in run.record(training.events()):
        summarizer.update(event)
    run.write_summary(summarizer.summary(str(run.path)))
    person = Person(tmp_path, "app", str(run.path))
    person.wait_for("( ) seek")
    person.press("2>>>>>>>>>")
    person.wait_for("■ done")
    person.wait_for("optim.lr 0.002 → 0.004")
    person.press("q")
    assert person.leave() == 0
