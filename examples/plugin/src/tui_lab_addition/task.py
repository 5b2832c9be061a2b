"""Add two numbers: x = 1 2 + 3 4 = 0 4, y = -1 -1 -1 -1 -1 0 4 6 (targets -1 are ignored)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.plugins import IGNORED, DataError, Task, TaskSettings
from tui_lab_addition.tokenizer import Letters

Ids = npt.NDArray[np.int64]
MOST_DIGITS = 3
SEED = 0


@dataclass(frozen=True)
class Sums:
    """Some of the sums of two numbers. A pair (a, b) is stored as a · 10^digits + b."""

    pairs: Ids
    digits: int
    tokenizer: Letters

    @property
    def n_examples(self) -> int:
        return len(self.pairs)

    @property
    def length(self) -> int:
        """Tokens of x: two numbers, +, =, and all but the last digit of the sum, which has one digit more."""
        return 3 * self.digits + 2

    def examples(self, ids: Ids) -> tuple[Ids, Ids]:
        """Return x and y, int64 [len(ids), length]."""
        rows = np.stack([self.tokenizer.encode(self.text(pair)) for pair in self.pairs[ids].tolist()])
        x = rows[:, :-1]
        y = rows[:, 1:].copy()
        y[:, : 2 * self.digits + 1] = IGNORED
        return x, y

    def text(self, pair: int) -> str:
        """Return a sum as text, each number with leading zeros."""
        a, b = divmod(pair, 10**self.digits)
        return f"{a:0{self.digits}}+{b:0{self.digits}}={a + b:0{self.digits + 1}}"

    def offsets(self, ids: Ids) -> None:
        """There is no text that the examples are parts of."""
        return None


def make(settings: TaskSettings) -> Task:
    """Make the task. Its option: digits, of each number, 1 to 3; 2 unless it is set."""
    digits = settings.options.get("digits", 2)
    if type(digits) is not int or not 1 <= digits <= MOST_DIGITS:
        allowed = f"1 to {MOST_DIGITS}"
        raise DataError.of(
            "invalid", "must be a number of digits", key="data.options.digits", value=digits, allowed=allowed
        )
    pairs = np.random.default_rng(SEED).permutation(10 ** (2 * digits)).astype(np.int64)
    n_val = max(1, round(len(pairs) * settings.val_fraction))
    tokenizer = Letters("0123456789+=")
    train = Sums(pairs[n_val:], digits, tokenizer)
    val = Sums(pairs[:n_val], digits, tokenizer)
    return Task("addition", tokenizer, train, val, metric="exact_match", next_token=False)
