"""Text that grows at its end, broken into lines."""

from collections.abc import Iterable

from rich._wrap import divide_line
from rich.text import Text


class Flow:
    """Lines of at most `width` columns, but for the spaces at their ends, broken between words where it can be.

    What has been broken is not looked at again, so that a text costs what is added to it.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._lines: list[Text] = []
        self._open = Text()

    def extend(self, parts: Iterable[tuple[str, str]]) -> None:
        """Each a text and its style."""
        for text, style in parts:
            self._open.append(text, style)
        *done, self._open = broken(self._open, self._width)
        self._lines += done

    def lines(self, ending: Text) -> list[Text]:
        """All of them, with an ending that is not there for good."""
        return [*self._lines, *broken(self._open + ending, self._width)]


def broken(text: Text, width: int) -> list[Text]:
    """The lines of a text, at least one. As Text.wrap, which drops spaces."""
    return [
        line
        for paragraph in text.split("\n", allow_blank=True)
        for line in paragraph.divide(divide_line(paragraph.plain, width))
    ]
