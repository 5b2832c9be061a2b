"""Reverse a row of digits: (1, 2, 3, 4) → x = 1 2 3 4 4 3 2, y = -1 -1 -1 4 3 2 1."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.data.dataset import IGNORED, Task
from tui_lab.data.shuffle import hash_key, mix, permute
from tui_lab.data.tokenizers import DigitsTokenizer
from tui_lab.util.errors import DataError

Ids = npt.NDArray[np.int64]

# Of more distinct rows, a fixed random sample is used, which bounds start-up time and memory.
MAX_UNIVERSE = 2**18
_UNIVERSE_KEY = hash_key(0x7E5E)
_SPLIT_KEY = hash_key(0x5B117)


def to_xy(digits: Ids) -> tuple[Ids, Ids]:
    """Turn rows of digits [B, L] into x and y [B, 2L-1], where only the reversed half has targets."""
    reversed_digits = digits[:, ::-1]
    x = np.concatenate([digits, reversed_digits[:, :-1]], axis=1)
    y = np.concatenate([np.full_like(digits[:, 1:], IGNORED), reversed_digits], axis=1)
    return x, y


@dataclass(frozen=True)
class ReverseExamples:
    """Rows of digits, each stored as the integer with these digits in base `n_digits`."""

    numbers: Ids
    digits: int
    n_digits: int

    @property
    def n_examples(self) -> int:
        return len(self.numbers)

    @property
    def length(self) -> int:
        return 2 * self.digits - 1

    def rows(self, ids: Ids) -> Ids:
        """Return the digits of examples, int64 [len(ids), L]."""
        powers = self.n_digits ** np.arange(self.digits - 1, -1, -1, dtype=np.int64)
        rows: Ids = self.numbers[ids][:, None] // powers % self.n_digits
        return rows

    def examples(self, ids: Ids) -> tuple[Ids, Ids]:
        return to_xy(self.rows(ids))

    def offsets(self, ids: Ids) -> None:
        return None


@functools.lru_cache(maxsize=4)
def reverse_task(*, length: int, n_digits: int, val_fraction: float) -> Task:
    """Return the task of reversing `length` digits.

    A hash of each row decides whether it is for training or validation.

    Raises DataError when there are too many rows to number in 63 bits, or too few for both parts.
    """
    n_rows = n_digits**length
    if n_rows >= 2**62:
        raise DataError.of(
            "too_large", f"{n_digits}^{length} rows are too many, at most 2^62", key="data.length", value=length
        )
    universe = permute(np.arange(min(n_rows, MAX_UNIVERSE), dtype=np.int64), n_rows, _UNIVERSE_KEY)
    in_val = mix(universe.astype(np.uint64) ^ np.uint64(_SPLIT_KEY)) < np.uint64(int(val_fraction * (2**64 - 2048)))
    train, val = (ReverseExamples(universe[part], length, n_digits) for part in (~in_val, in_val))
    if min(train.n_examples, val.n_examples) == 0:
        raise DataError.of(
            "invalid",
            f"of {n_rows} rows {train.n_examples} are for training and {val.n_examples} for validation, and both need "
            "at least one; a larger data.length or data.n_digits gives more rows",
            key="data.val_fraction",
            value=val_fraction,
        )
    return Task("reverse", DigitsTokenizer(n_digits), train, val, "exact_match", next_token=False)
