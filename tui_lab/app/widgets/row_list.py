"""A list of lines, of which only the visible ones are drawn; the screen moves its selection."""

from collections.abc import Callable, Sequence

from rich.text import Text
from textual.events import Click, MouseScrollDown, MouseScrollUp
from textual.message import Message
from textual.widgets import Static

from tui_lab.app.widgets.static_text import update_text

DrawLine = Callable[[int, int], Text]
"""Returns the line of an index for a width."""


class RowList(Static):
    """Call `show`. Posts `Chosen` for a click on a line, and `Moved` when the wheel is turned."""

    class Chosen(Message):
        def __init__(self, list: "RowList", index: int) -> None:
            super().__init__()
            self.list = list
            self.index = index

    class Moved(Message):
        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self._head: Callable[[int], Sequence[Text]] = lambda width: ()
        self._line: DrawLine = lambda index, width: Text()
        self._n = 0
        self._selected = 0
        self._first = 0
        self._n_head = 0

    def show(self, head: Callable[[int], Sequence[Text]], line: DrawLine, n: int, selected: int = 0) -> None:
        """Show `n` lines below the lines of a head, so that the selected one is visible."""
        self._head = head
        self._line = line
        self._n = n
        self._selected = selected
        self._draw()

    def _draw(self) -> None:
        width = self.size.width
        if not width:
            return
        head = list(self._head(width))
        self._n_head = len(head)
        height = max(1, self.size.height - len(head))
        self._first = min(self._first, self._selected, max(0, self._n - height))
        self._first = max(self._first, self._selected - height + 1)
        shown = range(self._first, min(self._n, self._first + height))
        update_text(self, Text("\n").join([*head, *(self._line(index, width) for index in shown)]))

    def on_resize(self) -> None:
        self._draw()

    def on_click(self, event: Click) -> None:
        index = self._first + event.y - self._n_head
        if event.y >= self._n_head and index < self._n:
            self.post_message(self.Chosen(self, index))

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Moved(1))

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Moved(-1))
