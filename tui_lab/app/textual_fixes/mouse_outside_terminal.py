"""Textual 8.2.8: a mouse event outside the screen ends the app.

The event was sent before the terminal became smaller. The handler looks up the widget at that place, there is none, and
NoWidget is raised. Screens ignore such events, except the release of a button, which ends a drag.
"""

from textual import events
from textual.geometry import Region
from textual.screen import ScreenResultType

from tui_lab.app.textual_fixes.screen_mixin import ScreenMixin


def is_outside(event: events.Event, screen: Region) -> bool:
    """Return whether this is a mouse event outside of the screen, other than a release."""
    if isinstance(event, events.MouseEvent) and not isinstance(event, events.MouseUp):
        return not screen.contains_point((event.screen_x, event.screen_y))
    return False


class IgnoreMouseOutside(ScreenMixin[ScreenResultType]):
    async def on_event(self, event: events.Event) -> None:
        if not is_outside(event, self.region):
            await super().on_event(event)
