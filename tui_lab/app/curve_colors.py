"""The colors of curves and of the marks of runs, one set per theme.

They are those of Okabe and Ito (2008, "Color universal design"), which people with any kind of color vision tell apart,
made lighter or darker until they are readable as text on the theme's ground. The app gives them to Rich's color names,
so that a text needs no color of its own per theme.
"""

from rich.terminal_theme import TerminalTheme
from textual.color import Color
from textual.theme import Theme

CURVE_STYLES = ("cyan", "yellow", "magenta", "green", "blue", "red", "bright_cyan", "bright_yellow")
"""In the order in which they are given to runs."""
OVERLAY_STYLES = ("magenta", "blue", "bright_yellow", "bright_cyan", "red", "green")
"""Of other runs in the loss pane, where cyan is the train loss and yellow the validation loss."""

_NORMAL = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_DARK = ("#56b4e9", "#e69f00", "#d98bb9", "#2fb58a", "#8c8cf5", "#e8703a", "#c8c8c8", "#f0e442")
_LIGHT = ("#0072a8", "#946300", "#b22486", "#0b5c3f", "#2b1fa8", "#7a2a00", "#1e1e1e", "#7a3ff0")
_HIGH_CONTRAST = ("#5ad1ff", "#ffb000", "#ffa6da", "#2fd9a0", "#a29bff", "#ff8a5c", "#e8e8e8", "#fff04d")


def _terminal_theme(curves: tuple[str, ...], foreground: str, background: str, muted: str) -> TerminalTheme:
    colors = dict(zip(CURVE_STYLES, curves, strict=True)) | {"black": background, "white": foreground}
    colors["bright_black"] = muted
    colors["bright_white"] = foreground
    bright = [colors.get(f"bright_{name}", colors[name]) for name in _NORMAL]
    return TerminalTheme(
        Color.parse(background).rgb,
        Color.parse(foreground).rgb,
        [Color.parse(colors[name]).rgb for name in _NORMAL],
        [Color.parse(color).rgb for color in bright],
    )


DARK = _terminal_theme(_DARK, "#d5d9e3", "#101218", "#8a93a8")
LIGHT = _terminal_theme(_LIGHT, "#1d2129", "#fcfcfa", "#5a6272")
HIGH_CONTRAST = _terminal_theme(_HIGH_CONTRAST, "#ffffff", "#000000", "#c0c0c0")


def terminal_theme(theme: Theme) -> TerminalTheme:
    """Return the colors of Rich's color names in a theme."""
    if theme.name == "high-contrast":
        return HIGH_CONTRAST
    return DARK if theme.dark else LIGHT
