"""A line to type into."""

from textual.binding import Binding
from textual.events import Key
from textual.reactive import reactive
from textual.widgets import Input

from tui_lab.app.textual_fixes.size_lays_out import size_without_layout


class Field(Input):
    """An Input whose cursor does not blink, so that an idle app paints nothing. The footer shows its keys."""

    KEPT_ACTIONS = ("app.focus_next",)
    """Those that Textual carries out."""
    BINDINGS = [
        Binding("enter", "submit", "Apply"),
        Binding("tab", "app.focus_next", "Next field"),
    ]

    async def _on_key(self, event: Key) -> None:
        """Carry out the field's own keys in the order in which they were pressed.

        Textual handles letters here and other keys later, in the app, so that a burst of both, as over a slow
        connection, would be reordered.
        """
        for binding in self._bindings.key_to_bindings.get(event.key, []):
            if binding.action not in self.KEPT_ACTIONS:
                event.stop()
                event.prevent_default()
                await self.run_action(binding.action)
                return
        await super()._on_key(event)

    cursor_blink = reactive(False, init=False)
    virtual_size = size_without_layout()
