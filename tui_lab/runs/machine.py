"""Describe the machine, so that figures measured on it can be read elsewhere."""

import platform
from typing import Any

import psutil
import torch

from tui_lab.core.kernels.autotune import processor


def machine() -> dict[str, Any]:
    """Return processor, cores, threads, memory and versions."""
    return {
        "processor": processor().rpartition(",")[0],
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
