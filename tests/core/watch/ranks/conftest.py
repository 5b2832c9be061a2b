"""A process group of this one process, which the code takes for the first or second of two."""

from collections.abc import Iterator

import pytest
import torch.distributed
from torch._C._distributed_c10d import HashStore
from torch.distributed.distributed_c10d import Store

from tui_lab.core.watch.ranks.group import shared_store


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The part of its store for our keys."""
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    shared = shared_store()
    assert shared is not None
    try:
        yield shared
    finally:
        monkeypatch.undo()
        torch.distributed.destroy_process_group()
