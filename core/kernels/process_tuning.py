"""Settings of the process: keep freed memory for the next step, and run the garbage collector less often."""

import atexit
import ctypes
import functools
import gc

# From glibc's malloc.h; see mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_ARENA_MAX = -8
_LARGEST_BLOCK = 2**30


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks. Call it before threads are started; without glibc it does nothing.

    By default glibc returns them at once, so that each step pays for new pages: 10% of a step with the chunks of
    logits of a large vocabulary. All threads share one arena, since only the first can hold blocks above 64 MiB.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def reduce_gc() -> None:
    """Collect garbage after 20,000 new objects instead of 700, and not at exit. Call it where a program starts.

    A full collection visits the 300,000 objects of torch and Textual and holds every thread for 0.15 s. With the
    default, importing torch caused five of them, and the app one every ten seconds. Python's own at exit took 0.6 s.
    """
    gc.set_threshold(20_000, 20, 20)
    atexit.register(gc.freeze)


@functools.cache
def freeze_gc_objects() -> None:
    """Exclude all objects created so far from garbage collection. Call it after the imports; later calls do nothing."""
    gc.freeze()
