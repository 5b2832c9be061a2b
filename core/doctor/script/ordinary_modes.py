"""The modes of torch in which a script is examined, whatever modes it has entered."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

DEVICES = ("cpu", "cuda")


@contextmanager
def ordinary_modes() -> Iterator[None]:
    """Leave the modes in which the script is, and count no autocast as entered.

    torch keeps the casts of weights until the outermost autocast ends. For a model that enters autocast itself, the
    checks would change weights without any effect if they were within another one.
    """
    was_enabled = {device: torch.is_autocast_enabled(device) for device in DEVICES}
    depth = _autocast_depth()
    for _ in range(depth):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    for device in DEVICES:
        torch.set_autocast_enabled(device, False)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for device, enabled in was_enabled.items():
            torch.set_autocast_enabled(device, enabled)
        for _ in range(depth):
            torch.autocast_increment_nesting()


def _autocast_depth() -> int:
    depth: int = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    return depth
