"""The questions to the terminal, answered by pretended terminals at the other end of a pseudo-terminal."""

import os
import pty
import termios
import threading
from collections.abc import Iterator

import pytest

from tui_lab.cli.environment.terminal_query import ATTRIBUTES, KEYBOARD, MOUSE, SYNCHRONIZED, Replies, ask

KITTY = {KEYBOARD: "\x1b[?0u", MOUSE: "\x1b[?1006;2$y", SYNCHRONIZED: "\x1b[?2026;2$y", ATTRIBUTES: "\x1b[?62;c"}
XTERM = {MOUSE: "\x1b[?1006;2$y", SYNCHRONIZED: "\x1b[?2026;0$y", ATTRIBUTES: "\x1b[?64;1;2;6;9;15;22c"}
VT100 = {ATTRIBUTES: "\x1b[?1;2c"}


class Pretended:
    """A terminal that answers some questions. `asked` is all that was written to it."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.end, self.program_end = pty.openpty()
        self.answers = answers
        self.asked = ""
        self._thread = threading.Thread(target=self._answer, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _answer(self) -> None:
        while ATTRIBUTES not in self.asked:
            self.asked += os.read(self.end, 1024).decode()
        for question, answer in self.answers.items():
            if question in self.asked:
                for character in answer:  # As over a slow line.
                    os.write(self.end, character.encode())

    def close(self) -> None:
        self._thread.join()
        for number in (self.end, self.program_end):
            os.close(number)


@pytest.fixture
def terminal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretended]:
    pretended = Pretended(request.param)
    monkeypatch.delenv("TERM_PROGRAM", raising=False)
    pretended.start()
    yield pretended
    pretended.close()


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (KITTY, Replies(keyboard_protocol=True, mouse=True, synchronized_output=True)),
        (XTERM, Replies(keyboard_protocol=False, mouse=True, synchronized_output=False)),
        (VT100, Replies(keyboard_protocol=False)),
    ],
    indirect=["terminal"],
    ids=["kitty", "xterm", "VT100"],
)
def test_answers_are_understood_and_settings_restored(terminal: Pretended, expected: Replies) -> None:
    before = termios.tcgetattr(terminal.program_end)
    assert ask(terminal.program_end, terminal.program_end, seconds=30.0) == expected
    assert termios.tcgetattr(terminal.program_end) == before


@pytest.mark.parametrize("terminal", [{}], indirect=True)
def test_silent_terminal_is_not_waited_for(terminal: Pretended) -> None:
    assert ask(terminal.program_end, terminal.program_end, seconds=0.01) == Replies()


@pytest.mark.parametrize("terminal", [VT100], indirect=True)
def test_apple_terminal_is_asked_for_no_modes(terminal: Pretended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM_PROGRAM", "Apple_Terminal")
    ask(terminal.program_end, terminal.program_end, seconds=30.0)
    assert terminal.asked == KEYBOARD + ATTRIBUTES
