"""Copies of tensors that later steps do not change, and files of them."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor


def copied(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU with its own memory: safetensors refuses tied weights."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, for those who may read its folder. Raises OSError."""
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        # The library gives the operating system's error as text only.
        match = re.search(r"os error (\d+)", str(error))
        number = int(match[1]) if match else errno.EIO
        raise OSError(number, os.strerror(number) if match else str(error), str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # The library lets only the owner read it.
