"""RowMemory: which rows a script has trained on before."""

import pytest
import torch

from tui_lab.core.watch.batch.row_memory import RowHasher, RowMemory


def test_history_has_the_last_step_and_the_times_of_each_row() -> None:
    memory = RowMemory()
    memory.add(0, [5, 6])
    assert memory.history().last_step.tolist() == [-1, -1]
    memory.add(3, [6, 6, 7])
    history = memory.history()
    assert history.last_step.tolist() == [0, 3, -1]
    assert history.times.tolist() == [2, 3, 1]


def test_rows_used_longest_ago_are_forgotten() -> None:
    memory = RowMemory(limit=8)
    for step in range(4):
        memory.add(step, [100 + step, 7])
    memory.add(4, [7, 103, 100])
    assert memory.history().last_step.tolist() == [3, 3, 0]
    for step in range(5, 13):
        memory.add(step, [200 + step, 7])
    memory.add(13, [7, 100])
    history = memory.history()
    assert history.last_step.tolist() == [12, -1]
    assert history.times.tolist() == [14, 1]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_equal_rows_have_equal_hashes_and_a_script_may_use_their_memory_again(dtype: torch.dtype) -> None:
    x = torch.tensor([[1, 2], [3, 4], [1, 2]], dtype=dtype)
    hashes = RowHasher().hashes(x)
    x.fill_(7)
    first, second, third = hashes.tolist()
    assert first == third != second
