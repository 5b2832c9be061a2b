"""Textual 8.2.8: two quick resizes of the terminal can loop for ever.

A screen below another answers a Resize by posting one with the same size to itself. Two resizes that overlap then bring
each other back without end, and no key is handled any more. A screen ignores a size that is no longer the app's.
"""

from textual import events
from textual.screen import ScreenResultType

from tui_lab.app.textual_fixes.screen_mixin import ScreenMixin


class IgnoreStaleResize(ScreenMixin[ScreenResultType]):
    def on_resize(self, event: events.Resize) -> None:
        if event.size != self.app.size:
            event.prevent_default()
