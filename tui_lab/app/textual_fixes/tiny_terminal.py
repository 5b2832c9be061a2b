"""Textual 8.2.8: a terminal of a few columns or lines ends the app.

Borders and padding leave a width of 0 or less, and wrapping text at it raises. The app is laid out for at least
`SMALLEST`, and cut off.
"""

from textual import events
from textual.app import App
from textual.geometry import Size

SMALLEST = Size(20, 5)


class LayOutAtLeastSmallest(App[None]):
    def on_resize(self, event: events.Resize) -> None:
        size = Size(max(event.size.width, SMALLEST.width), max(event.size.height, SMALLEST.height))
        if size != event.size:
            event.prevent_default()
            self.post_message(events.Resize(size, size))
