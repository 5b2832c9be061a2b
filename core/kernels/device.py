"""The device of a run, its CPU threads, and torch's global generator."""

from functools import cache
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from tui_lab.util.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device for `train.device`; auto prefers CUDA, then Apple's MPS, then the CPU.

    Raises ConfigError if this machine does not have it.
    """
    is_available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device in is_available if is_available[device]]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise ConfigError.of(
            "unavailable",
            "not available on this machine",
            key="train.device",
            value=name,
            allowed=", ".join(["auto", *available]),
        )
    return torch.device(name)


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Return a copy of an array on `device`, or the array's own memory on the CPU; contiguous in either case."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor.to(device).contiguous()
    # From pinned memory the copy is queued on the GPU, and the CPU does not wait for what is queued before it.
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


class HostCopy:
    """A copy of a tensor in the CPU's memory. From cuda it is on its way while the device and the CPU go on."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()
        self._copied: torch.cuda.Event | None = None
        if tensor.is_cuda:
            self._tensor = self._tensor.to("cpu", non_blocking=True)  # Into pinned memory.
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record(torch.cuda.current_stream(tensor.device))

    def read(self) -> Tensor:
        """Return the copy, or the tensor itself if it is on the CPU. Waits for what was queued before the copy only."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._tensor.cpu()


def use_threads(n: int) -> int:
    """Set the CPU threads of torch's operators (0 keeps torch's choice) and return their number."""
    if n:
        torch.set_num_threads(n)
    return torch.get_num_threads()


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed torch's global generators of the CPU and of `device`.

    `torch.manual_seed` seeds those of all devices, and keeps a stack trace per call for each device never used: a leak.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def seed_all_devices(seed: int) -> None:
    """Seed torch's global generators of all devices, also of one that user code will begin to use.

    On a machine without an accelerator, `torch.manual_seed` would still keep a stack trace per call for each kind.
    """
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
