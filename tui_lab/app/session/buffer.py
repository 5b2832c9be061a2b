"""What a worker has to tell, until the screen asks: bounded, safe between two threads."""

import threading

from tui_lab.core import events as ev


class Buffer:
    """Past `limit` updates, every second one is let go; what happens once is never dropped."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._items: list[object] = []
        self._updates = 0
        self._lock = threading.Lock()

    def put(self, item: object) -> None:
        with self._lock:
            self._items.append(item)
            if isinstance(item, ev.StepDone):
                self._updates += 1
                if self._updates > self._limit:
                    self._thin()

    def drain(self) -> list[object]:
        """All that has come since the last time."""
        with self._lock:
            items, self._items, self._updates = self._items, [], 0
        return items

    def _thin(self) -> None:
        """Drop every second update, but not the newest, and keep those that measured the update ratio."""
        kept: list[object] = []
        number = self._updates
        for item in self._items:
            if isinstance(item, ev.StepDone):
                number -= 1
                if number % 2 and item.update_ratio is None:
                    self._updates -= 1
                    continue
            kept.append(item)
        self._items = kept
