"""Numbers from 0 to 1 as colours or, where there are none, as shades; drawn line by line."""

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
SHADES, LETTERS = "·░▒▓█", ".:+%@"
HALF = "▀"
EVEN = 0.179
"""The luminance at which black and white can be read alike: (L + 0.05)² = 0.05 · 1.05."""
UNSEEN, OUTSIDE = -1, -2
"""The levels of what is not there, which is left blank, and of what is no part of a picture."""


def level_of(values: Floats, steps: int) -> Levels:
    """0 … steps - 1, by the square root: a weight of a tenth can still be seen beside one of a whole."""
    levels: Levels = np.minimum(np.sqrt(np.clip(values, 0, 1)) * steps, steps - 1).astype(np.int64)
    return levels


def pooled(weights: Floats, rows: int, columns: int) -> Floats:
    """[n, m] to at most [rows, columns], each cell the largest of its block: no peak is lost."""
    for axis, most in ((0, rows), (1, columns)):
        n = weights.shape[axis]
        block = -(-n // max(1, most))
        weights = np.maximum.reduceat(weights, np.arange(0, n, block), axis=axis)
    return weights


def luminance(colour: str) -> float:
    """Of "#rrggbb", relative, 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@dataclass(frozen=True)
class Ramp:
    """What a level looks like. colours: STEPS of them from nothing to one, empty where signs must do; blank: behind."""

    colours: tuple[str, ...]
    blank: str
    signs: str = SHADES

    @property
    def steps(self) -> int:
        return len(self.colours) or len(self.signs)

    def levels(self, values: Floats, seen: npt.NDArray[np.bool_]) -> Levels:
        """The level of each value; UNSEEN where it is not to be seen."""
        return np.where(seen, level_of(values, self.steps), UNSEEN)

    def colour(self, level: int) -> str:
        return self.colours[level] if level >= 0 else self.blank if level == UNSEEN else ""

    def text(self, level: int) -> str:
        """Black or white, whichever can be read better over a level's colour."""
        return "#000000" if luminance(self.colour(level)) > EVEN else "#ffffff"

    def sign(self, level: int) -> str:
        return " " if level == UNSEEN else self.signs[level]

    def legend(self) -> list[tuple[float, int]]:
        """A few values with their levels."""
        shown = (0.0, 0.1, 0.25, 0.5, 1.0)
        return [(v, int(level_of(np.array(v, dtype=np.float32), self.steps))) for v in shown]


def ramp_of(theme: Theme) -> Ramp:
    """From a theme's background through its own colour to black or white: brighter, or darker, all the way."""
    variables = theme.to_color_system().generate()
    back, own = Color.parse(variables["background"]), Color.parse(variables["primary"])
    end = Color(255, 255, 255) if theme.dark else Color(0, 0, 0)
    places = [2 * i / (STEPS - 1) for i in range(STEPS)]
    colours = [back.blend(own, at) if at < 1 else own.blend(end, at - 1) for at in places]
    return Ramp(tuple(colour.hex6.lower() for colour in colours), Color.parse(variables["panel"]).hex6.lower())


@lru_cache(maxsize=4096)
def style(foreground: str = "", background: str = "", *, bold: bool = False, reverse: bool = False) -> Style:
    return Style(color=foreground or None, bgcolor=background or None, bold=bold or None, reverse=reverse or None)


def picture(levels: Levels, ramp: Ramp, scale: int = 1) -> list[list[Segment]]:
    """[n, m] levels as lines, a point of `scale` columns: two points above each other make a line where there are
    colours; a sign has lines of its own."""
    if not ramp.colours:
        lines = ["".join(ramp.sign(level) * scale for level in row) for row in levels.tolist()]
        return [[Segment(line, Style())] for line in lines for _ in range(max(1, scale // 2))]
    large = levels.repeat(scale, axis=0).repeat(scale, axis=1)
    if len(large) % 2:
        large = np.vstack([large, np.full((1, large.shape[1]), OUTSIDE)])
    pairs = zip(large[::2].tolist(), large[1::2].tolist(), strict=True)
    return [
        [Segment(HALF, style(ramp.colour(a), ramp.colour(b))) for a, b in zip(upper, lower, strict=True)]
        for upper, lower in pairs
    ]


def fitting(n: int, ramp: Ramp, columns: int, lines: int) -> tuple[int, int]:
    """How many points a side a picture of [n, n] has in that room, at most n, and the scale of each."""
    deep = 2 * lines if ramp.colours else lines
    if n > min(columns, deep):
        return max(1, min(columns, deep)), 1
    if ramp.colours:
        return n, min(columns, deep) // n
    # A sign is twice as high as wide, so only even scales look square.
    return n, max(1, 2 * min(columns // (2 * n), lines // n))


class Lines(Widget, can_focus=True):
    """Shows lines of segments as they are; what is beyond the widget is cut."""

    class Clicked(Message):
        """At column x and line y."""

        def __init__(self, x: int, y: int) -> None:
            super().__init__()
            self.x, self.y = x, y

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._lines: list[Strip] = []

    def put(self, lines: Iterable[list[Segment]]) -> None:
        """Draw these, where they differ from what is there."""
        made = [Strip(line).simplify() for line in lines]
        if made != self._lines:
            self._lines = made
            self.refresh()

    def on_click(self, event: Click) -> None:
        self.post_message(self.Clicked(event.x, event.y))

    def render_line(self, y: int) -> Strip:
        strip = self._lines[y] if y < len(self._lines) else Strip([])
        return strip.apply_style(self.rich_style).crop_extend(0, self.size.width, self.rich_style)
