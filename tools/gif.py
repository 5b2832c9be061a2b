"""Draw frames of the app, with captions below them, as an animated GIF."""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len
from rich.color import ColorType
from rich.segment import Segment
from rich.style import Style
from textual._compositor import LayoutUpdate
from textual.app import App

Color = tuple[int, int, int]

CELL = (10, 20)
"""Width and height of a cell in pixels. The font's glyphs are 0.602 of its size wide."""
FONT_SIZE = 16.6
BASELINE = 15
FOREGROUND: Color = (224, 224, 224)
BACKGROUND: Color = (18, 18, 18)
CAPTION_HEIGHT = 56
CAPTION_SIZE = 24
CAPTION_COLOR: Color = (235, 235, 235)
KEY_COLOR: Color = (255, 166, 43)
N_COLORS = 160


@dataclass(frozen=True)
class Cell:
    text: str
    foreground: Color
    background: Color
    bold: bool = False
    italic: bool = False
    underline: bool = False


Grid = tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Caption:
    """The line below the picture. key: drawn as a key, in front of the text."""

    key: str = ""
    text: str = ""


@dataclass(frozen=True)
class Frame:
    grid: Grid
    caption: Caption
    seconds: float


def grid_of(app: App[None]) -> Grid:
    """Return the cells of what an app shows."""
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert isinstance(update, LayoutUpdate)
    return tuple(
        tuple(cell for strip in strips for segment in strip for cell in _cells(segment)) for strips in update.strips
    )


def _cells(segment: Segment) -> list[Cell]:
    style = segment.style or Style.null()
    foreground = _rgb(style, foreground=True)
    background = _rgb(style, foreground=False)
    if style.reverse:
        foreground, background = background, foreground
    if style.dim:
        foreground = _mixed(foreground, background)
    look = (bool(style.bold), bool(style.italic), bool(style.underline))
    cells = []
    for character in segment.text:
        cells.append(Cell(character, foreground, background, *look))
        cells += [Cell("", foreground, background)] * (cell_len(character) - 1)
    return cells


def _rgb(style: Style, *, foreground: bool) -> Color:
    color = style.color if foreground else style.bgcolor
    if color is None or color.type is ColorType.DEFAULT:
        return FOREGROUND if foreground else BACKGROUND
    red, green, blue = color.get_truecolor()
    return red, green, blue


def _mixed(one: Color, other: Color) -> Color:
    red, green, blue = ((2 * a + b) // 3 for a, b in zip(one, other, strict=True))
    return red, green, blue


@cache
def _font(size: float, *, bold: bool = False, italic: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans Mono, which comes with matplotlib."""
    name = "DejaVuSansMono" + {(True, False): "-Bold", (False, True): "-Oblique", (True, True): "-BoldOblique"}.get(
        (bold, italic), ""
    )
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf", size)


@cache
def _tile(cell: Cell) -> Image.Image:
    width, height = CELL
    tile = Image.new("RGB", (width * max(1, cell_len(cell.text)), height), cell.background)
    draw = ImageDraw.Draw(tile)
    code = ord(cell.text) if cell.text else 0
    if 0x2800 < code <= 0x28FF:
        _draw_braille(draw, code - 0x2800, cell.foreground)
    elif 0x2581 <= code <= 0x2588:  # Blocks from below, without the gaps that the font leaves.
        draw.rectangle((0, height - round(height * (code - 0x2580) / 8), width, height), cell.foreground)
    elif 0x2589 <= code <= 0x258F:  # Blocks from the left.
        draw.rectangle((0, 0, round(width * (0x2590 - code) / 8) - 1, height), cell.foreground)
    elif cell.text.strip():
        font = _font(FONT_SIZE, bold=cell.bold, italic=cell.italic)
        draw.text((0, BASELINE), cell.text, cell.foreground, font, anchor="ls")
    if cell.underline:
        draw.line((0, BASELINE + 2, width, BASELINE + 2), cell.foreground)
    return tile


def _draw_braille(draw: ImageDraw.ImageDraw, bits: int, color: Color) -> None:
    """Draw the dots of a braille pattern; the font has none. Bits go down the left column, then the right one."""
    places = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
    for bit, (column, row) in enumerate(places):
        if bits >> bit & 1:
            x, y = 1 + 5 * column, 1 + 5 * row
            draw.rectangle((x, y, x + 2, y + 2), color)


def draw_frame(frame: Frame) -> Image.Image:
    """Return the picture of a frame, with its caption."""
    width, height = CELL
    n_columns = max(len(row) for row in frame.grid)
    picture = Image.new("RGB", (n_columns * width, len(frame.grid) * height + CAPTION_HEIGHT), BACKGROUND)
    for y, row in enumerate(frame.grid):
        for x, cell in enumerate(row):
            if cell.text:
                picture.paste(_tile(cell), (x * width, y * height))
    _draw_caption(ImageDraw.Draw(picture), frame.caption, len(frame.grid) * height + CAPTION_HEIGHT // 2)
    return picture


def _draw_caption(draw: ImageDraw.ImageDraw, caption: Caption, middle: int) -> None:
    x = 16
    bold = _font(CAPTION_SIZE, bold=True)
    if caption.key:
        length = round(draw.textlength(caption.key, bold))
        box = (x, middle - 18, x + length + 24, middle + 18)
        draw.rounded_rectangle(box, 7, outline=KEY_COLOR, width=2)
        draw.text((x + 12, middle), caption.key, KEY_COLOR, bold, anchor="lm")
        x += length + 44
    draw.text((x, middle), caption.text, CAPTION_COLOR, _font(CAPTION_SIZE), anchor="lm")


def _palette(frames: list[Frame]) -> list[Color]:
    """Return the colors of all cells, and those at the edges of the most frequent glyphs."""
    pairs = Counter((cell.foreground, cell.background) for frame in frames for row in frame.grid for cell in row)
    pairs[CAPTION_COLOR, BACKGROUND] = pairs[KEY_COLOR, BACKGROUND] = len(frames)
    solid = dict.fromkeys(color for pair, _ in pairs.most_common() for color in pair)
    edges = dict.fromkeys(
        edge for (one, other), _ in pairs.most_common() for edge in (_mixed(one, other), _mixed(other, one))
    )
    return list(solid | edges)[:N_COLORS]


def save_gif(file: Path, frames: list[Frame]) -> None:
    """Write an animation that repeats for ever. All frames share one palette, so that only what changes is stored."""
    pictures = [draw_frame(frame) for frame in frames]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for color in _palette(frames) for part in color])
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    durations = [max(20, round(100 * frame.seconds) * 10) for frame in frames]
    first.save(file, save_all=True, append_images=others, duration=durations, loop=0, optimize=True, disposal=1)
