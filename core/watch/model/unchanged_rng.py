"""Leave the script's random numbers as they are while its code is called for us."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def unchanged_rng() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and torch, on every device in use, at the end of the block.

    In another thread than the main one it does nothing: the script trains at the same time, and to restore the
    generators would repeat numbers that it has drawn.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    cpu_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)
