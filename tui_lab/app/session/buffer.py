"""A bounded queue of messages from a background thread to the app."""

import threading
from typing import Generic, TypeVar

from tui_lab.core import events as ev
from tui_lab.util.thinning import extremes

Message = TypeVar("Message")


class Buffer(Generic[Message]):
    """Hold messages until the app drains them; safe between two threads.

    Past `limit` StepDone events, only those with extreme losses are kept; other messages are never dropped.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._messages: list[Message] = []
        self._n_steps = 0
        self._lock = threading.Lock()

    def put(self, message: Message) -> None:
        with self._lock:
            self._messages.append(message)
            if isinstance(message, ev.StepDone):
                self._n_steps += 1
                if self._n_steps > self._limit:
                    self._thin()

    def drain(self) -> list[Message]:
        """Return what was put since the last call, in order."""
        with self._lock:
            messages = self._messages
            self._messages = []
            self._n_steps = 0
        return messages

    def _thin(self) -> None:
        """Keep the steps with extreme losses, the newest step, and those that measured more."""
        plain = [
            message
            for message in self._messages
            if isinstance(message, ev.StepDone) and message.update_ratio is None and message.by_layer is None
        ]
        kept = extremes(plain, max(1, self._limit // 4), value=lambda step: step.loss)
        dropped = {id(step) for step in plain} - {id(step) for step in kept}
        self._messages = [message for message in self._messages if id(message) not in dropped]
        self._n_steps -= len(dropped)
