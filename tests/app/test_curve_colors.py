"""The colors of curves can be read and told apart in every theme."""

import math
from itertools import combinations

import pytest
from rich.color import Color
from rich.terminal_theme import TerminalTheme
from textual.theme import Theme

from tests.app.contrast import contrast
from tests.app.fake import lab
from tui_lab.app.curve_colors import CURVE_STYLES, OVERLAY_STYLES, terminal_theme
from tui_lab.app.themes import THEMES

RED_BLIND = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
GREEN_BLIND = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))
"""How linear RGB looks without one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1)."""
EASILY_TOLD_APART = 10.0
"""Distance in CIELAB; 2.3 is just noticeable."""


def hexes(theme: TerminalTheme) -> list[str]:
    return [Color.parse(name).get_truecolor(theme).hex for name in CURVE_STYLES]


def lab_values(color: str, seen: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    """Return the place in CIELAB of "#rrggbb" as a person sees it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    red, green, blue = (min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear, strict=True)))) for row in seen)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_colors_are_readable_and_differ_for_any_color_vision(theme: Theme) -> None:
    colors = hexes(terminal_theme(theme))
    least = 7.0 if theme.name == "high-contrast" else 4.5
    assert theme.background is not None
    assert {color: ratio for color in colors if (ratio := contrast(color, theme.background)) < least} == {}
    everybody = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    for seen in (everybody, RED_BLIND, GREEN_BLIND):
        places = {color: lab_values(color, seen) for color in colors}
        near = [pair for pair in combinations(colors, 2) if math.dist(*(places[c] for c in pair)) < EASILY_TOLD_APART]
        assert near == []


async def test_charts_follow_the_theme() -> None:
    assert set(OVERLAY_STYLES) < set(CURVE_STYLES)
    async with lab(steps=3) as it:
        for theme in THEMES:
            it.pilot.app.theme = theme.name
            await it.tell()
            train = hexes(terminal_theme(theme))[0]
            assert train in it.pilot.app.export_screenshot().lower(), theme.name
