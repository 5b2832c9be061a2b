"""Stop a run or a sweep at SIGINT, SIGTERM and SIGHUP: the first signal saves and stops.

A second SIGINT or SIGTERM ends the program.
"""

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

OUTPUTS = (1, 2)
"""The descriptors of stdout and stderr."""


@dataclass
class Interruption:
    """Whether a signal was received."""

    received: bool = False


@contextmanager
def stop_on_signals(stop: Callable[[], object] = lambda: None) -> Iterator[Interruption]:
    """Call `stop` at the first SIGINT, SIGTERM or SIGHUP inside the block.

    stop: runs in the signal handler, so it must not take a lock that the main thread may hold. Raises
    KeyboardInterrupt at a second SIGINT or SIGTERM. Restores the previous handlers at the end of the block. SIGHUP
    stays ignored if it was, as with nohup, and after it was received: a closed terminal may send it several times.
    """
    interruption = Interruption()
    hung_up = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up
        if number == signal.SIGHUP:
            hung_up = True
            discard_output_of_closed_terminal()
        elif interruption.received:
            raise KeyboardInterrupt
        if not interruption.received:
            interruption.received = True
            stop()

    handled = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in handled}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP and hung_up else handler)


def discard_output_of_closed_terminal() -> None:
    """Send stdout and stderr to /dev/null where they are a terminal that was closed: a write would raise OSError."""
    for descriptor in OUTPUTS:
        try:
            if not stat.S_ISCHR(os.fstat(descriptor).st_mode):
                continue
            os.tcgetpgrp(descriptor)
        except OSError as error:
            if error.errno == errno.EIO:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)
