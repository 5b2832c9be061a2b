"""How y follows from x: the next token, a copy, reversed, another fixed offset, or nothing of that kind."""

import numpy as np
import pytest

from tui_lab.app.session.alignment import Ids, alignment
from tui_lab.data.dataset import IGNORED


def text(T: int = 40) -> Ids:
    return np.random.default_rng(0).integers(0, 50, (4, T), dtype=np.int64)


@pytest.mark.parametrize(
    ("offset", "named", "next_token"),
    [(1, "x[t+1]", True), (0, "x[t] ", False), (2, "x[t+2]", False), (-3, "x[t-3]", False)],
)
def test_fixed_offset_is_named(offset: int, named: str, next_token: bool) -> None:
    source = text()
    aligned = alignment(source[:, 8:24], source[:, 8 + offset : 24 + offset])
    assert named in aligned.text and "100 %" in aligned.text and aligned.next_token == next_token


def test_reversed_targets_are_named() -> None:
    x = text()
    assert "reversed" in alignment(x, x[:, ::-1]).text


def test_ignored_targets_do_not_count() -> None:
    source = text()
    y = source[:, 1:].copy()
    y[:, :30] = IGNORED
    assert alignment(source[:, :-1], y).next_token


def test_share_of_an_alignment_with_exceptions_is_below_100_percent() -> None:
    source = text()
    y = source[:, 1:].copy()
    y[0, 0] = 99
    aligned = alignment(source[:, :-1], y)
    assert aligned.next_token and "99 %" in aligned.text


def test_unrelated_targets_have_no_alignment() -> None:
    y = np.random.default_rng(1).integers(0, 50, (4, 40), dtype=np.int64)
    for aligned in (alignment(text(), y), alignment(text(), np.full((4, 40), IGNORED)), alignment(text(), y[:, :1])):
        assert not aligned.next_token and "%" not in aligned.text
