"""The cores of this machine that a process may run on."""

import os


def allowed_cores() -> int:
    """Return how many cores this process may run on; a container's quota may allow less of their time."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
