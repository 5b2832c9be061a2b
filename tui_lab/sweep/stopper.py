"""Ends the trial that trains in this process, or that it has started."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopper:
    """Stops the present trial, from any thread, and those that are attached later."""

    def __init__(self) -> None:
        self.requested = False
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None

    def request(self) -> None:
        """Save and stop."""
        with self._lock:
            self.requested = True
            if self._stop is not None:
                self._stop()

    @contextmanager
    def attached(self, stop: Callable[[], None]) -> Iterator[None]:
        """Let `request` call `stop` while the block runs."""
        with self._lock:
            self._stop = stop
            if self.requested:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stop = None
