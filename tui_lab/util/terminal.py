"""What the terminal can show, from its environment: whether the app can be drawn in it, and with how many colors.

Textual leaves the number of colors to rich, which reads COLORTERM and the end of TERM. Three cases need more: Windows
Terminal and terminals reached by ssh set no COLORTERM, and GNU screen passes on the COLORTERM of the terminal that it
runs in, whose sequences it misreads.
"""

import os
import sys
from collections.abc import Mapping
from typing import Literal

ColorSystem = Literal["truecolor", "256", "standard"]
"""16.7 million, 256 and 16 colors, as rich names them."""

N_COLORS: dict[ColorSystem, int] = {"truecolor": 2**24, "256": 256, "standard": 16}

_TRUECOLOR_TERMS = frozenset({"alacritty", "contour", "foot", "wezterm", "xterm-ghostty", "xterm-kitty"})
"""Values of TERM that only terminals with 16.7 million colors set."""

_PROGRAMS = {
    "Apple_Terminal": "Apple Terminal",
    "ghostty": "Ghostty",
    "iTerm.app": "iTerm2",
    "vscode": "VS Code",
    "WezTerm": "WezTerm",
}
"""Values of TERM_PROGRAM."""

_VARIABLES = {
    "WT_SESSION": "Windows Terminal",
    "KITTY_WINDOW_ID": "kitty",
    "ALACRITTY_WINDOW_ID": "Alacritty",
    "KONSOLE_VERSION": "Konsole",
    "VTE_VERSION": "GNOME Terminal or another with VTE",
}
"""Variables that one terminal sets."""


def is_dumb(environment: Mapping[str, str]) -> bool:
    """Return whether TERM names a terminal that cannot place the cursor."""
    return environment.get("TERM", "").lower() in ("dumb", "unknown")


def multiplexer(environment: Mapping[str, str]) -> Literal["tmux", "screen", ""]:
    """Return the terminal multiplexer that the program runs in, or ""."""
    term = environment.get("TERM", "")
    if environment.get("TMUX") or term.startswith("tmux"):
        return "tmux"
    return "screen" if environment.get("STY") or term.partition("-")[0].partition(".")[0] == "screen" else ""


def program(environment: Mapping[str, str]) -> str:
    """Return the name of the terminal, as far as variables give it away, or ""."""
    known = _PROGRAMS.get(environment.get("TERM_PROGRAM", ""), "")
    if known:
        return known
    if environment.get("TERM") == "linux":
        return "Linux console"
    return next((name for variable, name in _VARIABLES.items() if environment.get(variable)), "")


def color_system(environment: Mapping[str, str]) -> ColorSystem | None:
    """Return the colors that the app uses in a terminal; None for one that cannot show the app.

    GNU screen gets 256 at most: before version 5 it reads the numbers of a sequence for more as attributes like blink.
    """
    if is_dumb(environment):
        return None
    term = environment.get("TERM", "").strip().lower()
    if multiplexer(environment) == "screen":
        return "256" if "256color" in term else "standard"
    announced = environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit")
    if announced or term in _TRUECOLOR_TERMS or term.endswith("-direct") or environment.get("WT_SESSION"):
        return "truecolor"
    return "256" if term.endswith(("256color", "-kitty")) else "standard"


def why_no_app(environment: Mapping[str, str] = os.environ) -> str:
    """Return why the app cannot be opened here, as the end of "the app …", or "" if it can.

    Under `tui-lab serve`, textual-serve names a driver that reaches the browser through pipes.
    """
    if environment.get("TEXTUAL_DRIVER"):
        return ""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return "needs a terminal"
    return "needs a terminal that can place the cursor, and TERM is dumb" if is_dumb(environment) else ""
