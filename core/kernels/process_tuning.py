"""Memory: what a step frees is kept for the next one, and dead cycles of objects are looked for seldom."""

import ctypes
import functools
import gc

# From glibc's malloc.h; mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 2**30


def keep_freed_memory() -> None:
    """Let glibc hold on to large blocks that are freed. Call it before threads are started.

    By default it gives them back at once, so that each step pays for fresh pages: for the chunks of logits of a large
    vocabulary that is a tenth of a step. One arena for all threads: only the first can hold blocks above 64 MiB.
    Does nothing where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, 2**31 - 1)):
        mallopt(option, value)


def raise_gc_threshold() -> None:
    """Let Python look for dead cycles after 20,000 new objects instead of 700. Call it where a program starts.

    A look at all objects, of which torch and Textual bring 300,000, holds every thread for 0.15 s: importing torch made
    five, the app one every ten seconds.
    """
    gc.set_threshold(20_000, 20, 20)


@functools.cache
def freeze_gc_objects() -> None:
    """What is loaded by now is never looked at again. For after the imports; only the first call does something."""
    gc.freeze()
