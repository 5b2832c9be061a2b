"""The terminal: what its environment says, what it answers, and what the app does without it."""

import locale
import os
import shutil
import sys
from collections.abc import Mapping

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.cli.environment.terminal_query import Replies, ask
from tui_lab.util import terminal as by_environment

SMALLEST = (80, 24)
"""Columns and lines for which every screen is laid out."""


def section() -> Section:
    """Return what the terminal can show."""
    environment = os.environ
    has_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    replies = ask() if has_terminal and not by_environment.is_dumb(environment) else Replies()
    columns, lines = shutil.get_terminal_size()
    figures: dict[str, Figure] = {
        "is a terminal": has_terminal,
        "TERM": environment.get("TERM", ""),
        "program": by_environment.program(environment) or None,
        "inside": by_environment.multiplexer(environment),
        "over ssh": "SSH_CONNECTION" in environment,
        "colors": colors(environment),
        "NO_COLOR": "NO_COLOR" in environment,
        "size": f"{columns} × {lines}",
        "encoding": locale.getpreferredencoding(False).lower(),
        "mouse": replies.mouse,
        "keyboard protocol": replies.keyboard_protocol,
        "synchronized output": replies.synchronized_output,
    }
    return Section("terminal", figures, tuple(_missing(environment, has_terminal, (columns, lines))))


def colors(environment: Mapping[str, str]) -> int:
    """Return how many colors the app uses here; 0 if it cannot be drawn."""
    system = by_environment.color_system(environment)
    return 0 if system is None else by_environment.N_COLORS[system]


def _missing(environment: Mapping[str, str], has_terminal: bool, size: tuple[int, int]) -> list[Missing]:
    if by_environment.is_dumb(environment):
        fix = "Use tui-lab run, tui-lab watch --headless and tui-lab runs, or set TERM to what the terminal is."
        return [Missing("app", "this terminal cannot place the cursor, so the app cannot be drawn", fix)]
    if not has_terminal:
        return [Missing("app", "input or output is not a terminal: the app cannot be drawn", "Run it in a terminal.")]
    missing = []
    if locale.getpreferredencoding(False).lower().replace("-", "") != "utf8":
        message = "the locale is not UTF-8, so lines and curves cannot be drawn"
        missing.append(Missing("encoding", message, "Set LANG=C.UTF-8."))
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        message = f"the terminal has {size[0]} × {size[1]} characters; the app is laid out for 80 × 24 or more"
        missing.append(Missing("size", message, "Enlarge the window, or choose a smaller font."))
    if (fix := _fix_of_colors(environment)) and colors(environment) < 256:
        missing.append(Missing("colors", f"{colors(environment)} colors: curves of several runs look alike", fix))
    return missing


def _fix_of_colors(environment: Mapping[str, str]) -> str:
    """Say how to get more colors, or return "" where nothing is known that helps."""
    inside = by_environment.multiplexer(environment)
    if inside == "tmux":
        return "In tmux.conf: set -g default-terminal tmux-256color; set -as terminal-features ',*:RGB'"
    if inside == "screen":
        return "In .screenrc: term screen-256color. tmux shows more."
    if environment.get("TERM") in ("xterm", None, ""):
        return "Set TERM=xterm-256color if the terminal has 256 colors, and COLORTERM=truecolor if it has all."
    return ""
