"""Keys of a burst go into the field that a key before them opened.

Textual gives each key to the widget that has the focus when the key arrives, and looks for its binding later, in the
app. If a key before it has opened a field meanwhile, as in a burst over a slow connection, a letter would be lost.
"""

from textual.app import App
from textual.events import Key

from tui_lab.app.widgets.input import Field


class KeysIntoField(App[None]):
    """A mixin for App."""

    async def _on_key(self, event: Key) -> None:
        field = self.focused
        if isinstance(field, Field) and not field.has_received(event):
            event.prevent_default()
            key = Key(event.key, event.character)
            key._set_forwarded()
            field.post_message(key)
