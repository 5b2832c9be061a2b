"""The last thing before the terminal: nothing that was read from a file, or said by a model, may drive it."""

import unicodedata

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter


class OnlyVisible(LineFilter):
    """Drops control, escape and invisible characters, which take no column. Panes show them escaped (`printable`);
    this is for whatever reaches the screen by another way."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [
            segment if segment.control else Segment("".join(filter(_takes_room, segment.text)), segment.style)
            for segment in segments
        ]


def _takes_room(character: str) -> bool:
    """Spaces of other widths, or that do not break a line, are no printable characters to Python."""
    return character.isprintable() or unicodedata.category(character) == "Zs"
