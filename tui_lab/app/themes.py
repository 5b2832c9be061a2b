"""The colors of the app: one accent on a quiet ground."""

from textual.theme import Theme

DARK = Theme(
    name="lab-dark",
    primary="#7aa2f7",
    secondary="#8a93a8",
    accent="#7aa2f7",
    warning="#e0af68",
    error="#f7768e",
    success="#9ece6a",
    foreground="#d5d9e3",
    background="#101218",
    surface="#101218",
    panel="#1b1e28",
    boost="#20242f",
    dark=True,
)
LIGHT = Theme(
    name="lab-light",
    primary="#1f5fbf",
    secondary="#5a6272",
    accent="#1f5fbf",
    warning="#8a5a00",
    error="#b3261e",
    success="#2e6b1f",
    foreground="#1d2129",
    background="#fcfcfa",
    surface="#fcfcfa",
    panel="#eceef2",
    boost="#e4e8ef",
    dark=False,
)
HIGH_CONTRAST = Theme(
    name="high-contrast",
    primary="#ffff00",
    secondary="#00ffff",
    accent="#ffffff",
    warning="#ffaf00",
    error="#ff5f5f",
    success="#5fff5f",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    boost="#303030",
    dark=True,
)
THEMES = (DARK, LIGHT, HIGH_CONTRAST)
"""In the order in which `t` goes through them."""
