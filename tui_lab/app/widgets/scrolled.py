"""Text that scrolls, also by j and k."""

from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.widgets import RichLog

from tui_lab.app.textual_fixes.size_lays_out import size_without_layout
from tui_lab.app.widgets.movement import SCROLL


class Page(VerticalScroll):
    """A VerticalScroll."""

    BINDINGS = [*SCROLL]


class Log(RichLog):
    """A RichLog whose last lines stay in view when its height changes.

    It does not lay out the screen for each line. Its size must not depend on its content.
    """

    BINDINGS = [*SCROLL]
    virtual_size = size_without_layout()

    def on_mount(self) -> None:
        self.anchor()

    def watch_virtual_size(self, size: Size) -> None:
        self._scroll_update(size)
        self.refresh()
