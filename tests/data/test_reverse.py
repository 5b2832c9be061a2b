"""The task of reversing digits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.data.tasks.reverse import MAX_UNIVERSE, ReverseExamples, reverse_task, to_xy
from tui_lab.data.tokenizers import decode
from tui_lab.util.errors import DataError


def rows_of(part: object) -> set[int]:
    assert isinstance(part, ReverseExamples)
    return set(part.numbers.tolist())


def test_example_of_the_notebook() -> None:
    x, y = to_xy(np.array([[1, 2, 3, 4]]))
    assert x.tolist() == [[1, 2, 3, 4, 4, 3, 2]]
    assert y.tolist() == [[-1, -1, -1, 4, 3, 2, 1]]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_x_with_the_last_target_is_a_palindrome_and_the_prompt_is_ignored(digits: list[int]) -> None:
    x, y = to_xy(np.array([digits]))
    whole = [*x[0].tolist(), int(y[0, -1])]
    assert whole == digits + digits[::-1]
    assert y[0].tolist() == [-1] * (len(digits) - 1) + digits[::-1]


@given(st.integers(2, 6), st.integers(2, 12), st.floats(0.2, 0.8))
@settings(max_examples=30)
def test_training_and_validation_share_no_row(length: int, n_digits: int, share: float) -> None:
    try:
        task = reverse_task(length=length, n_digits=n_digits, val_fraction=share)
    except DataError:
        assert n_digits**length < 40
        return
    train, val = rows_of(task.train), rows_of(task.val)
    assert not train & val
    assert len(train | val) == min(n_digits**length, MAX_UNIVERSE)


def test_validation_share_is_close_to_the_setting() -> None:
    task = reverse_task(length=6, n_digits=10, val_fraction=0.1)
    share = task.val.n_examples / (task.val.n_examples + task.train.n_examples)
    assert abs(share - 0.1) < 0.005


def test_example_has_the_digits_of_its_number() -> None:
    task = reverse_task(length=5, n_digits=10, val_fraction=0.1)
    x, _ = task.train.examples(np.array([17]))
    assert isinstance(task.train, ReverseExamples)
    assert decode(task.tokenizer, x[0, :5]) == f"{task.train.numbers[17]:05d}"


def test_too_many_rows_and_too_few_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        reverse_task(length=60, n_digits=10, val_fraction=0.1)
    assert (caught.value.problems[0].key, caught.value.problems[0].value) == ("data.length", 60)
    with pytest.raises(DataError) as caught:
        reverse_task(length=1, n_digits=2, val_fraction=0.01)
    assert (caught.value.problems[0].key, caught.value.problems[0].value) == ("data.val_fraction", 0.01)
