"""Whether targets and inputs that are cut from one text belong together."""

import pytest
import torch
from torch import Tensor

from tui_lab.core.doctor.checks.data.unrelated_rows import length_of_unrelated_runs

N, T = 96, 32
TEXT = torch.randint(20, (400,), generator=torch.Generator().manual_seed(0)).repeat(10)


def cut(seed: int, offset: int = 0) -> Tensor:
    starts = torch.randint(len(TEXT) - T - 1, (N,), generator=torch.Generator().manual_seed(seed))
    return torch.stack([TEXT[start + offset : start + offset + T] for start in starts])


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (cut(1, offset=1), True),
        (cut(0, offset=1), False),
        (cut(0).flip(1), False),
        (cut(0, offset=-1), False),
        (torch.randint(20, (N, T), generator=torch.Generator().manual_seed(5)), False),
        (torch.zeros(N, T, dtype=torch.int64), False),
        (cut(1, offset=1).masked_fill(torch.arange(T) > 8, -100), False),
    ],
    ids=["other places", "next ids", "reversed", "earlier ids", "other data", "constant", "mostly ignored"],
)
def test_targets_from_other_places_of_the_data_are_unrelated(y: Tensor, expected: bool) -> None:
    assert bool(length_of_unrelated_runs(cut(0), y, -100)) == expected


def test_phrases_that_a_text_repeats_do_not_hide_unrelated_rows() -> None:
    phrase = torch.arange(20, 32)
    text = torch.cat([torch.cat([phrase, TEXT[12 * i : 12 * i + 12]]) for i in range(30)]).repeat(4)
    starts = torch.randint(len(text) - T - 1, (2, N), generator=torch.Generator().manual_seed(1))
    x, y = (torch.stack([text[start : start + T] for start in row]) for row in starts)
    assert length_of_unrelated_runs(x, y, -100) > len(phrase)
    assert not length_of_unrelated_runs(x, x.roll(-1, 1), -100)
