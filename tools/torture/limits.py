"""Limits for one fuzzed input: seconds and bytes of memory."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

SECONDS = 60
BYTES = 2**30


class Hung(AssertionError):
    """An input took too long."""


def on_alarm(number: int, frame: FrameType | None) -> None:
    """Handle SIGALRM. Raises Hung."""
    raise Hung(f"not done within {SECONDS} s")


@contextmanager
def bounded(seconds: int = SECONDS, memory: int = BYTES) -> Iterator[None]:
    """Limit the block's time and memory.

    Raises Hung after `seconds`. Allocations fail beyond `memory` more bytes of address space than are in use now.
    """
    previous_handler = signal.signal(signal.SIGALRM, on_alarm)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + memory, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous_handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
