"""Stop a run or a sweep at SIGINT and SIGTERM: the first signal saves and stops, the second one ends the program."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Interruption:
    """Whether a signal was received."""

    received: bool = False


@contextmanager
def stop_on_signals(stop: Callable[[], object] = lambda: None) -> Iterator[Interruption]:
    """Call `stop` at the first SIGINT or SIGTERM inside the block.

    stop: runs in the signal handler, so it must not take a lock that the main thread may hold. Raises
    KeyboardInterrupt at the second signal. Restores the previous handlers at the end of the block.
    """
    interruption = Interruption()

    def handle(number: int, frame: FrameType | None) -> None:
        if interruption.received:
            raise KeyboardInterrupt
        interruption.received = True
        stop()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
