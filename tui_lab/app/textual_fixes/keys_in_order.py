"""Textual 8.2.8: the keys of a burst go to the widget that has the focus when they arrive.

A key is carried out only when it has bubbled up to the app. By then the next keys of the burst are on their way to the
old focus: after `:` or `/`, letters that should be typed into the field that opens are taken for commands. Here a key
waits until the one before it has been carried out.
"""

from collections import deque
from functools import partial

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

ROUNDS = 2
"""How often a mark follows a key from the focus up to the app: the second one comes after the messages that the key led
to, such as that a field was submitted."""
PATIENCE = 0.25
"""Seconds after which the next key no longer waits: the widget with the focus may have been removed."""


class KeysInOrder(App[None]):
    _n_keys = 0
    """Keys sent so far; the last of them is on its way while `_is_under_way`."""
    _is_under_way = False

    def __init__(self) -> None:
        super().__init__()
        self._waiting_keys: deque[events.Key] = deque()

    @property
    def keys_under_way(self) -> bool:
        """Whether a key has not been carried out yet."""
        return self._is_under_way

    async def on_event(self, event: events.Event) -> None:
        if not isinstance(event, events.Key) or event.is_forwarded:
            await super().on_event(event)
        elif self._is_under_way:
            self._waiting_keys.append(event)
            self.set_timer(PATIENCE, partial(self._next_key, self._n_keys))
        else:
            await self._send(event)

    async def _send(self, event: events.Key) -> None:
        self._is_under_way = True
        self._n_keys += 1
        target = self.focused or self.screen
        await super().on_event(event)
        self._follow(target, target, ROUNDS, self._n_keys)

    def _follow(self, target: MessagePump, node: MessagePump | None, rounds: int, number: int) -> None:
        """Go behind the key from `node` up to the app, and then again from `target` if there are `rounds` left."""
        while node is not None and node is not self:
            if node.call_later(self._follow, target, node._parent, rounds, number):
                return
            node = node._parent
        if rounds > 1:
            self.call_later(self._follow, target, target, rounds - 1, number)
        else:
            # Once more behind what the last handler asked for: `Widget.focus` does not focus at once.
            self.call_later(self.call_later, self._next_key, number)

    async def _next_key(self, number: int) -> None:
        """Send the next key, unless that was done since."""
        if number == self._n_keys:
            self._is_under_way = False
            if self._waiting_keys:
                await self._send(self._waiting_keys.popleft())
