"""Textual 8.2.8: a key pressed while a screen is being opened reaches the screen before it is mounted.

Its action then looks for widgets that are not there yet, and the app exits. Keys and mouse events wait until the screen
is mounted.
"""

from textual import events
from textual.app import App


class HoldInputUntilMounted(App[None]):
    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.InputEvent):
            await self.screen._mounted_event.wait()
        await super().on_event(event)
