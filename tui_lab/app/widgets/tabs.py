"""Numbers and titles of panes, for screens that show one pane at a time."""

from collections.abc import Sequence

from rich.text import Text
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

GAP = " "


class PaneTabs(Static):
    """A line of tabs; `panes` are (number, title) pairs."""

    class Selected(Message):
        """A tab was clicked."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self, panes: Sequence[tuple[int, str]], id: str) -> None:
        super().__init__(id=id)
        self._panes = panes

    def mark(self, active: int) -> None:
        """Highlight the tab of the active pane."""
        tabs = [(f" {number} {title} ", "reverse" if number == active else "") for number, title in self._panes]
        self.update(Text(GAP).join(Text(*tab) for tab in tabs))

    def on_click(self, event: Click) -> None:
        end = 0
        for number, title in self._panes:
            end += len(f" {number} {title} {GAP}")
            if event.x < end:
                self.post_message(self.Selected(number))
                return
