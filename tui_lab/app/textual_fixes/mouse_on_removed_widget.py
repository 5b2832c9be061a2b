"""Textual 8.2.8: pressing the mouse on a widget that was removed, but is still painted, ends the app.

The screen's map of widgets is only updated at the next layout. The press is sent to the removed widget, which has no
screen any more, and an error is raised. The screen reports no widget at that place instead.
"""

from textual.geometry import Offset
from textual.screen import ScreenResultType
from textual.widget import Widget

from tui_lab.app.textual_fixes.removed_nodes import is_removed
from tui_lab.app.textual_fixes.screen_mixin import ScreenMixin


class IgnoreRemovedUnderMouse(ScreenMixin[ScreenResultType]):
    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        widget, offset = super().get_widget_and_offset_at(x, y)
        return (None, None) if widget is not None and is_removed(widget) else (widget, offset)
