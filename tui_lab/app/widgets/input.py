"""A line to type into."""

from textual.binding import Binding
from textual.reactive import reactive
from textual.widgets import Input

from tui_lab.app.textual_fixes.size_lays_out import size_without_layout


class Field(Input):
    """An Input whose cursor does not blink, so that an idle app paints nothing. The footer shows its keys."""

    BINDINGS = [
        Binding("enter", "submit", "Apply"),
        Binding("tab", "app.focus_next", "Next field"),
    ]

    cursor_blink = reactive(False, init=False)
    virtual_size = size_without_layout()
