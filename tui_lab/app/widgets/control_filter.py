"""Keep control characters out of the terminal, whatever file or model they come from."""

import unicodedata

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter


class ControlFilter(LineFilter):
    """Drop control, escape and invisible characters, which take no column.

    Panes show them escaped (`printable`); this filter is for text that reaches the screen in another way.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(segment.text.isprintable() for segment in segments):
            return segments
        return [
            segment if segment.control else Segment("".join(filter(_takes_column, segment.text)), segment.style)
            for segment in segments
        ]


def _takes_column(character: str) -> bool:
    """Python does not count spaces of other widths, or without a line break, as printable."""
    return character.isprintable() or unicodedata.category(character) == "Zs"
