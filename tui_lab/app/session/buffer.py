"""What a worker has to tell, until the screen asks: bounded, safe between two threads."""

import threading

from tui_lab.core import events as ev
from tui_lab.util.thinning import extremes


class Buffer:
    """Past `limit` steps, only those with extreme losses are kept; events that happen once are never dropped."""

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
        """Keep the steps with extreme losses, the newest step, and those that measured the update ratio."""
        plain = [item for item in self._items if isinstance(item, ev.StepDone) and item.update_ratio is None]
        kept = extremes(plain, max(1, self._limit // 4), value=lambda step: step.loss)
        dropped = {id(step) for step in plain} - {id(step) for step in kept}
        self._items = [item for item in self._items if id(item) not in dropped]
        self._updates -= len(dropped)
