"""What one fuzzed input may take: seconds, and bytes of memory."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

SECONDS = 60
BYTES = 2**30


class Hung(AssertionError):
    """It took too long."""


def ring(number: int, frame: FrameType | None) -> None:
    raise Hung(f"not done within {SECONDS} s")


@contextmanager
def bounded(seconds: int = SECONDS, most: int = BYTES) -> Iterator[None]:
    """Raises Hung past `seconds`; an allocation beyond `most` more bytes of address space than now fails."""
    before_alarm = signal.signal(signal.SIGALRM, ring)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + most, hard))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before_alarm)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
