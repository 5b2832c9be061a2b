"""Training data in which some examples are skipped: their targets are ignored, and the order of all others stays."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tui_lab.data.dataset import IGNORED, Dataset, Ids
from tui_lab.util.errors import DataError


@dataclass(frozen=True)
class WithoutExamples:
    """`dataset` with IGNORED targets in the `skipped` examples. Raises DataError for one that does not exist.

    Windows of a text overlap: a target that lies in a skipped window is ignored in every window that has it. What
    precedes such a window, or follows it, stays a target; the tokens of x stay everywhere.
    """

    dataset: Dataset
    skipped: tuple[int, ...]

    def __post_init__(self) -> None:
        n = self.dataset.n_examples
        for example in self.skipped:
            if not 0 <= example < n:
                raise DataError.of(
                    "invalid",
                    "there is no such training example",
                    key="data.skip_examples",
                    value=example,
                    allowed=f"0 to {n - 1}",
                )

    @property
    def n_examples(self) -> int:
        return self.dataset.n_examples

    @property
    def length(self) -> int:
        return self.dataset.length

    def offsets(self, ids: Ids) -> Ids | None:
        return self.dataset.offsets(ids)

    def examples(self, ids: Ids) -> tuple[Ids, Ids]:
        x, y = self.dataset.examples(ids)
        offsets = self.dataset.offsets(ids)
        if offsets is None:
            return x, np.where(np.isin(ids, self.skipped)[:, None], IGNORED, y)
        last = offsets + self.length - 1
        overlapping = self._end_before(last) > offsets  # [B]
        if not overlapping.any():
            return x, y
        places = offsets[overlapping, None] + np.arange(self.length)
        y = y.copy()
        y[overlapping] = np.where(self._end_before(places) > places, IGNORED, y[overlapping])
        return x, y

    @cached_property
    def _starts(self) -> Ids:
        """The offsets of the skipped windows, ascending."""
        offsets = self.dataset.offsets(np.array(sorted(self.skipped), dtype=np.int64))
        assert offsets is not None
        return offsets

    def _end_before(self, places: Ids) -> Ids:
        """Return the end of the last skipped window that starts at each place or before it; −1 if there is none."""
        number = np.searchsorted(self._starts, places, side="right") - 1
        ends: Ids = np.where(number >= 0, self._starts[number] + self.length, -1)
        return ends


def neighbors(example: int, length: int, stride: int) -> range:
    """Return the windows from the first to the last one that overlaps or touches a window of `length`.

    Windows are `stride` apart.

    Text that makes one window stand out may reach as far beyond it.
    """
    reach = length // stride
    return range(example - reach, example + reach + 1)
