"""Numbers and titles of panes, for screens that show one pane at a time."""

from collections.abc import Sequence

from rich.text import Text
from textual.events import Click
from textual.widgets import Static

GAP = " "


class PaneTabs(Static):
    """A line of tabs; `panes` are (number, title) pairs. A click on one does what its number key does."""

    def __init__(self, panes: Sequence[tuple[int, str]], id: str) -> None:
        super().__init__(id=id)
        self._panes = panes

    def mark(self, active: int) -> None:
        """Highlight the tab of the active pane."""
        tabs = [(f" {number} {title} ", "reverse" if number == active else "") for number, title in self._panes]
        self.update(Text(GAP).join(Text(*tab) for tab in tabs))

    async def on_click(self, event: Click) -> None:
        end = 0
        for number, title in self._panes:
            end += len(f" {number} {title} {GAP}")
            if event.x < end:
                await self.run_action(f"screen.do('pane_{number}')")
                return
