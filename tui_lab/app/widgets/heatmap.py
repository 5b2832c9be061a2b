"""Draw numbers from 0 to 1 as colors, or as shades in a terminal without colors."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.theme import Theme
from textual.widget import Widget

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int64]
STEPS = 32
SHADES = "·░▒▓█"
LETTERS = ".:+%@"
HALF = "▀"
EVEN = 0.179
"""Luminance against which black and white have the same contrast: (L + 0.05)² = 0.05 · 1.05 (WCAG 2.1)."""
UNSEEN = -1
OUTSIDE = -2
"""Levels of cells that are left blank, and of cells outside of the picture."""


def level_of(values: Floats, steps: int) -> Levels:
    """Return levels 0 … steps - 1, by the square root, so that 0.1 differs visibly from 0."""
    levels: Levels = np.minimum(np.sqrt(np.clip(values, 0, 1)) * steps, steps - 1).astype(np.int64)
    return levels


def pooled(weights: Floats, rows: int, columns: int) -> Floats:
    """Reduce [n, m] to at most [rows, columns] by the maximum of each block."""
    for axis, most in ((0, rows), (1, columns)):
        n = weights.shape[axis]
        block = -(-n // max(1, most))
        weights = np.maximum.reduceat(weights, np.arange(0, n, block), axis=axis)
    return weights


def luminance(color: str) -> float:
    """Return the relative luminance of "#rrggbb", 0 to 1 (WCAG 2.1)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@dataclass(frozen=True)
class Ramp:
    """How levels are drawn.

    colors: STEPS of them from 0 to 1, empty to draw with `signs`; blank: the color of cells that are left blank.
    """

    colors: tuple[str, ...]
    blank: str
    signs: str = SHADES

    @property
    def steps(self) -> int:
        return len(self.colors) or len(self.signs)

    def levels(self, values: Floats, visible: npt.NDArray[np.bool_]) -> Levels:
        """Return the level of each value; UNSEEN where `visible` is False."""
        return np.where(visible, level_of(values, self.steps), UNSEEN)

    def color(self, level: int) -> str:
        return self.colors[level] if level >= 0 else self.blank if level == UNSEEN else ""

    def text(self, level: int) -> str:
        """Return black or white, whichever has more contrast on a level's color."""
        return "#000000" if luminance(self.color(level)) > EVEN else "#ffffff"

    def sign(self, level: int) -> str:
        return " " if level == UNSEEN else self.signs[level]

    def legend(self) -> list[tuple[float, int]]:
        """Return a few values with their levels."""
        shown = (0.0, 0.1, 0.25, 0.5, 1.0)
        return [(v, int(level_of(np.array(v, dtype=np.float32), self.steps))) for v in shown]


def ramp_of(theme: Theme) -> Ramp:
    """Return a ramp from a theme's background through its primary color to white, or to black in a light theme."""
    variables = theme.to_color_system().generate()
    background = Color.parse(variables["background"])
    primary = Color.parse(variables["primary"])
    end = Color(255, 255, 255) if theme.dark else Color(0, 0, 0)
    places = [2 * i / (STEPS - 1) for i in range(STEPS)]
    colors = [background.blend(primary, at) if at < 1 else primary.blend(end, at - 1) for at in places]
    return Ramp(tuple(color.hex6.lower() for color in colors), Color.parse(variables["panel"]).hex6.lower())


@lru_cache(maxsize=4096)
def style(foreground: str = "", background: str = "", *, bold: bool = False, reverse: bool = False) -> Style:
    return Style(color=foreground or None, bgcolor=background or None, bold=bold or None, reverse=reverse or None)


def picture(levels: Levels, ramp: Ramp, scale: int = 1) -> list[list[Segment]]:
    """Draw levels [n, m], each `scale` columns wide. With colors a line of text shows two rows of points."""
    if not ramp.colors:
        lines = ["".join(ramp.sign(level) * scale for level in row) for row in levels.tolist()]
        return [[Segment(line, Style())] for line in lines for _ in range(max(1, scale // 2))]
    large = levels.repeat(scale, axis=0).repeat(scale, axis=1)
    if len(large) % 2:
        large = np.vstack([large, np.full((1, large.shape[1]), OUTSIDE)])
    pairs = zip(large[::2].tolist(), large[1::2].tolist(), strict=True)
    return [
        [Segment(HALF, style(ramp.color(a), ramp.color(b))) for a, b in zip(upper, lower, strict=True)]
        for upper, lower in pairs
    ]


def fitting(n: int, ramp: Ramp, columns: int, lines: int) -> tuple[int, int]:
    """Return how many points a side, at most n, a picture of [n, n] has in the room, and the scale of each."""
    deep = 2 * lines if ramp.colors else lines
    if n > min(columns, deep):
        return max(1, min(columns, deep)), 1
    if ramp.colors:
        return n, min(columns, deep) // n
    # A character is twice as high as wide, so only even scales look square.
    return n, max(1, 2 * min(columns // (2 * n), lines // n))


class Lines(Widget, can_focus=True):
    """Show lines of segments, cut off at the widget's edge."""

    class Clicked(Message):
        """The mouse was clicked at column x and line y."""

        def __init__(self, x: int, y: int) -> None:
            super().__init__()
            self.x = x
            self.y = y

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._lines: list[Strip] = []

    def put(self, lines: Iterable[list[Segment]]) -> None:
        """Draw these lines, if they differ from the current ones."""
        strips = [Strip(line).simplify() for line in lines]
        if strips != self._lines:
            self._lines = strips
            self.refresh()

    def on_click(self, event: Click) -> None:
        self.post_message(self.Clicked(event.x, event.y))

    def render_line(self, y: int) -> Strip:
        strip = self._lines[y] if y < len(self._lines) else Strip([])
        return strip.apply_style(self.rich_style).crop_extend(0, self.size.width, self.rich_style)
