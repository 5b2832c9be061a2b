"""Textual 8.2.8: a new screen applies the styles of all its widgets twice before it is first shown.

Each widget gets its styles when it is mounted, and once more when the screen is resumed, which is meant for a screen
that was covered meanwhile.
"""

from textual import events
from textual.screen import ScreenResultType

from tui_lab.app.textual_fixes.screen_mixin import ScreenMixin


class StyledWhenMounted(ScreenMixin[ScreenResultType]):
    _was_resumed = False

    def _on_screen_resume(self, event: events.ScreenResume) -> None:
        if not self._was_resumed:
            self._was_resumed = True
            event.refresh_styles = False
            # The screen itself had its styles applied before its own CSS was read.
            self.app.stylesheet.apply(self, animate=False)
