"""Stop a run or a sweep at SIGINT, SIGTERM and SIGHUP: the first signal saves and stops.

A second SIGINT or SIGTERM ends the program. `timeout` sends each SIGTERM twice, to the program and to its process
group, so one that follows at once does not count.
"""

import errno
import math
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from tui_lab.util.exit_codes import INTERRUPTED, of_signal

OUTPUTS = (1, 2)
"""The descriptors of stdout and stderr."""
SAME_SIGTERM = 1.0
"""Seconds after the first signal in which a SIGTERM is the same one, sent twice."""


@dataclass
class Interruption:
    """number: of the first signal that was received; 0 if none was."""

    number: int = 0

    @property
    def received(self) -> bool:
        return self.number != 0

    @property
    def exit_code(self) -> int:
        """The code with which the command ends. 130 without a signal: another process of the same run got it."""
        return of_signal(self.number) if self.received else INTERRUPTED


class InterruptedBySignal(KeyboardInterrupt):
    """number: of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code_of(error: BaseException | None) -> int:
    """Return the exit code of a command that a KeyboardInterrupt ends, also one that was raised from another."""
    while error is not None:
        if isinstance(error, InterruptedBySignal):
            return of_signal(error.number)
        error = error.__cause__ or error.__context__
    return INTERRUPTED


@contextmanager
def stop_on_signals(stop: Callable[[], object] = lambda: None) -> Iterator[Interruption]:
    """Call `stop` at the first SIGINT, SIGTERM or SIGHUP inside the block.

    stop: runs in the signal handler, so it must not take a lock that the main thread may hold. Raises
    InterruptedBySignal at a second SIGINT or SIGTERM. Restores the previous handlers at the end of the block. SIGHUP
    stays ignored if it was, as with nohup, and after it was received: a closed terminal may send it several times.
    """
    interruption = Interruption()
    hung_up = False
    first = -math.inf

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal hung_up, first
        if number == signal.SIGHUP:
            hung_up = True
            discard_unread_output()
        elif interruption.received and not (number == signal.SIGTERM and time.monotonic() < first + SAME_SIGTERM):
            raise InterruptedBySignal(number)
        if not interruption.received:
            first = time.monotonic()
            interruption.number = number
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


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Raise InterruptedBySignal at SIGINT, SIGTERM and SIGHUP inside the block, so that its cleanup runs."""

    def interrupt() -> None:
        raise InterruptedBySignal(interruption.number)

    with stop_on_signals(interrupt) as interruption:
        yield


@contextmanager
def going_on_unread() -> Iterator[None]:
    """Let the block end where nobody reads its output any more, and discard what is written later."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EIO, errno.EPIPE):
            raise
        discard_unread_output()


def discard_unread_output() -> None:
    """Send stdout and stderr to /dev/null where nobody reads them any more: a write would raise OSError."""
    for descriptor in OUTPUTS:
        if is_unread(descriptor):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)


def is_unread(descriptor: int) -> bool:
    """Return whether it is a terminal that was closed, or a pipe whose reader has ended."""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISCHR(mode):
            os.tcgetpgrp(descriptor)
    except OSError as error:
        return error.errno == errno.EIO
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
