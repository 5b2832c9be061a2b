"""Wrap text that grows at its end."""

from collections.abc import Iterable

from rich.text import Text

from tui_lab.app.textual_fixes.wrap_keeps_spaces import wrapped


class Flow:
    """Lines of at most `width` columns, apart from spaces at their ends.

    A line that is complete is not wrapped again, so the cost of `extend` depends only on the text added.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._complete: list[Text] = []
        self._last = Text()

    def extend(self, parts: Iterable[tuple[str, str]]) -> None:
        """Append (text, style) pairs."""
        for text, style in parts:
            self._last.append(text, style)
        *complete, self._last = wrapped(self._last, self._width)
        self._complete += complete

    def lines(self, ending: Text) -> list[Text]:
        """Return all lines, with an ending that later calls of `extend` replace."""
        return [*self._complete, *wrapped(self._last + ending, self._width)]
