"""The processes that train together with this one, and the store through which they talk."""

import os
from typing import TYPE_CHECKING

import torch.distributed

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

PREFIX = "tui_lab"
"""Of our keys in the store of the script's process group."""


def n_processes() -> int:
    """Return how many processes train, on all machines, by the variables that torchrun sets."""
    size = os.environ.get("WORLD_SIZE", "")
    return max(1, int(size)) if size.isdecimal() else 1


def shared_store() -> "Store | None":
    """Return the part of the group's store for our keys; None until the script has set up its process group."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    return PrefixStore(PREFIX, _get_default_store())
