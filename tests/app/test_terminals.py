"""The colors in each terminal: what is read from its variables, and what the app then sends."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.test_end_to_end import Person
from tui_lab.util.terminal import N_COLORS, color_system, multiplexer, program

ENV = ("-c", "import os, sys; os.execvp('env', ['env', *sys.argv[1:]])")
"""A program that runs another one with other variables, as env(1) does."""
XTERM = {"TERM": "xterm-256color"}
TRUE = {"COLORTERM": "truecolor"}
TERMINALS = {
    "kitty": ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1", **TRUE}, "kitty", "", 2**24),
    "kitty by ssh": ({"TERM": "xterm-kitty"}, "", "", 2**24),
    "iTerm2": ({**XTERM, "TERM_PROGRAM": "iTerm.app", **TRUE}, "iTerm2", "", 2**24),
    "Apple Terminal": ({**XTERM, "TERM_PROGRAM": "Apple_Terminal"}, "Apple Terminal", "", 256),
    "Windows Terminal in WSL": ({**XTERM, "WT_SESSION": "b7"}, "Windows Terminal", "", 2**24),
    "tmux": ({"TERM": "tmux-256color", "TMUX": "socket,1,0"}, "", "tmux", 256),
    "tmux in a terminal with all colors": ({"TERM": "screen-256color", "TMUX": "x", **TRUE}, "", "tmux", 2**24),
    "screen": ({"TERM": "screen", "STY": "1.pts"}, "", "screen", 16),
    "screen in kitty": (
        {"TERM": "screen.xterm-256color", "STY": "1.pts", **TRUE},
        "",
        "screen",
        256,
    ),
    "Linux console": ({"TERM": "linux"}, "Linux console", "", 16),
    "16 colors": ({"TERM": "xterm-16color"}, "", "", 16),
    "direct colors": ({"TERM": "xterm-direct"}, "", "", 2**24),
    "TERM unset": ({}, "", "", 16),
    "dumb": ({"TERM": "dumb", **TRUE}, "", "", None),
}


@pytest.mark.parametrize(("environment", "name", "inside", "colors"), TERMINALS.values(), ids=TERMINALS.keys())
def test_terminal_is_known_by_its_variables(
    environment: dict[str, str], name: str, inside: str, colors: int | None
) -> None:
    system = color_system(environment)
    assert program(environment) == name
    assert multiplexer(environment) == inside
    assert (system and N_COLORS[system]) == colors


@pytest.mark.skipif(shutil.which("tput") is None, reason="needs tput, of ncurses")
def test_no_terminal_gets_more_colors_than_terminfo_has() -> None:
    """Without COLORTERM. Terminfo counts 8 colors where the bright ones are bold; 16 are sent to those, too."""
    names = "xterm xterm-16color xterm-256color screen screen-256color tmux tmux-256color linux rxvt-unicode ansi"
    compared = 0
    for term in names.split():
        done = subprocess.run(["tput", "-T", term, "colors"], capture_output=True, text=True, check=False)
        if done.returncode:
            continue  # This machine does not describe it.
        system = color_system({"TERM": term})
        assert system is not None and N_COLORS[system] <= max(16, int(done.stdout)), term
        compared += 1
    assert compared >= 3


def colors_sent(output: bytes) -> set[str]:
    """The kinds of color in the output of a program: "truecolor", "256" and "standard"."""
    kinds = set()
    for match in re.finditer(rb"\x1b\[([\d;]*)m", output):
        code = b";" + match[1] + b";"
        if re.search(rb";[34]8;2;", code):
            kinds.add("truecolor")
        elif re.search(rb";[34]8;5;", code):
            kinds.add("256")
        elif re.search(rb";(3[0-7]|4[0-7]|9[0-7]|10[0-7]);", code):
            kinds.add("standard")
    return kinds


def output_of_home(folder: Path, **environment: str) -> bytes:
    """What the app sends for its first screen, with these variables in place of those of a modern terminal."""
    # TEXTUAL_COLOR_SYSTEM: a test that ran the app in this process may have left its own.
    variables = {"TERM": "", "COLORTERM": "", "NO_COLOR": "", "TEXTUAL_COLOR_SYSTEM": "", **environment}
    unset = [f"-u{name}" for name, value in variables.items() if not value]
    assigned = [f"{name}={value}" for name, value in variables.items() if value]
    person = Person(folder, *unset, *assigned, sys.executable, "-m", "tui_lab", program=ENV)
    person.wait_for("Presets")
    person.press("q")
    assert person.leave() == 0
    return person.raw


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        pytest.param({"TERM": "linux"}, "standard", marks=pytest.mark.slow),
        pytest.param({}, "standard", marks=pytest.mark.slow),
        pytest.param({"TERM": "screen", "STY": "1", **TRUE}, "standard", marks=pytest.mark.slow),
        pytest.param({"TERM": "screen-256color", "STY": "1", **TRUE}, "256", marks=pytest.mark.slow),
        pytest.param(XTERM, "256", marks=pytest.mark.slow),
        pytest.param({**XTERM, "WT_SESSION": "b7"}, "truecolor", marks=pytest.mark.slow),
        pytest.param({"TERM": "xterm-kitty"}, "truecolor", marks=pytest.mark.slow),
    ],
    ids=["Linux console", "unset", "screen", "screen with 256", "xterm", "Windows Terminal", "kitty"],
)
def test_app_sends_only_colors_that_the_terminal_has(environment: dict[str, str], kind: str, tmp_path: Path) -> None:
    assert colors_sent(output_of_home(tmp_path, **environment)) == {kind}


@pytest.mark.slow
def test_app_without_color_is_gray(tmp_path: Path) -> None:
    output = output_of_home(tmp_path, NO_COLOR="1", TERM="xterm-256color", COLORTERM="truecolor")
    colors = re.findall(rb"[34]8;2;(\d+);(\d+);(\d+)", output)
    assert colors and all(red == green == blue for red, green, blue in colors)


def test_terminal_without_a_cursor_is_refused(tmp_path: Path) -> None:
    person = Person(tmp_path, "TERM=dumb", sys.executable, "-m", "tui_lab", program=ENV)
    assert person.leave() == 2
    assert b"TERM is dumb" in person.raw and b"\x1b" not in person.raw
