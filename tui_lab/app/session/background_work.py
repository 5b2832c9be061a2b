"""One piece of work at a time in a thread, whose messages the app collects."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from tui_lab.app.session.buffer import Buffer

Message = TypeVar("Message")
Put = Callable[[Message], None]
"""Gives the app a message."""


class BackgroundWork(Generic[Message]):
    """The app calls every method from its own thread. name: of the thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._buffer = Buffer[Message]()
        self._thread: threading.Thread | None = None

    def start(self, work: Callable[[Put[Message]], None]) -> None:
        """Call `work` in a thread. The messages of earlier work, which must have ended, are dropped."""
        assert self._thread is None or not self._thread.is_alive()
        self._buffer = Buffer[Message]()
        self._thread = threading.Thread(target=work, args=(self._buffer.put,), name=self._name, daemon=True)
        self._thread.start()

    def drain(self) -> list[Message]:
        """Return the messages since the last call, in order."""
        return self._buffer.drain()

    def join(self) -> None:
        """Wait for the end of the work."""
        if self._thread is not None:
            self._thread.join()
