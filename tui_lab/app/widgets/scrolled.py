"""Text that scrolls, also by j and k."""

from textual.containers import VerticalScroll
from textual.widgets import RichLog

from tui_lab.app.widgets.movement import SCROLL


class Page(VerticalScroll):
    """A VerticalScroll."""

    BINDINGS = [*SCROLL]


class Log(RichLog):
    """A RichLog."""

    BINDINGS = [*SCROLL]
