"""Textual 8.2.8: a simulated key does not reach the bindings of a widget above the one that has the focus.

The key counts as sent by the widget whose click simulates it, and a message does not bubble to its sender. Here it is
sent by the app.
"""

from textual.app import App


class SimulateKeysFromApp(App[None]):
    def simulate_key(self, key: str) -> None:
        self.call_later(super().simulate_key, key)
