"""Textual 8.2.8: the footer ignores changes while the terminal has no focus, and the first key does not update it.

A run continues in an unfocused terminal, so the footer would show keys that do not apply. This footer follows changes
whether or not the terminal has the focus.
"""

from textual.screen import Screen
from textual.widgets import Footer


class FollowWithoutFocus(Footer):
    def bindings_changed(self, screen: Screen[object]) -> None:
        self._bindings_ready = True
        if self.is_attached and screen is self.screen:
            self.call_after_refresh(self.recompose)
