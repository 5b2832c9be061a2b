"""A process that ends when its parent has ended, even if that was killed. Linux only."""

import ctypes
import os
import signal
import sys

_SIGNAL_WHEN_PARENT_ENDS = 1
"""PR_SET_PDEATHSIG of prctl(2): the parent is the thread that has started this process."""


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Let this process get a signal when its parent ends. parent: its process id; if it is gone, this process ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_SIGNAL_WHEN_PARENT_ENDS, number)
    if parent is not None and os.getppid() != parent:  # It ended before.
        os._exit(128 + number)
