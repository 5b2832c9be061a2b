"""Textual 8.2.8: `Screen.dismiss` pops whatever screen is on top.

An answer and Escape, both typed before the first is handled, dismiss a dialog twice: the second call pops the screen
below, or raises if something waits for the result. The second call does nothing here.
"""

from textual.await_complete import AwaitComplete
from textual.screen import ScreenResultType

from tui_lab.app.textual_fixes.screen_mixin import ScreenMixin


class DismissOnce(ScreenMixin[ScreenResultType]):
    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()
