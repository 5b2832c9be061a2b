"""A budget for measurements: they may take a fixed share of the script's time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHARE = 0.002
"""Of the time of the script. There are two budgets; in a small model the hooks at every step need more than both."""


class Budget:
    """`allows()` while the measurements so far took less than their share. The first one is always allowed."""

    def __init__(self, share: float = SHARE, clock: Callable[[], float] = time.perf_counter) -> None:
        self._share = share
        self._clock = clock
        self._began: float | None = None
        self._spent = 0.0

    def allows(self) -> bool:
        """Return whether a measurement may be taken now."""
        now = self._clock()
        if self._began is None:
            self._began = now
            return True
        return self._spent <= self._share * (now - self._began)

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time of the block."""
        start = self._clock()
        try:
            yield
        finally:
            self._spent += self._clock() - start
