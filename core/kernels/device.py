"""Where the arithmetic is done, and with how many threads."""

import torch

from tui_lab.util.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device of `train.device`; auto takes CUDA, then Apple's MPS, then the CPU. Raises ConfigError."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, present in available.items() if present))
    if not available[name]:
        present = ", ".join(device for device, there in available.items() if there)
        raise ConfigError([f"train.device = {name!r}: not on this machine; available here: auto, {present}"])
    return torch.device(name)


def use_threads(n: int) -> int:
    """Set the CPU threads of torch's operators (0 keeps torch's choice); the number in force."""
    if n:
        torch.set_num_threads(n)
    return torch.get_num_threads()


def seed_torch(device: torch.device, seed: int) -> None:
    """Seed torch's global generator of `device`, as `torch.manual_seed` seeds those of all devices.

    That function notes down a stack trace for each device that was never used, at every call and for good.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)
