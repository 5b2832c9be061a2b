"""Which targets of aligned rows follow from earlier ids, and which are random.

Two rows that agree in an earlier id, in two of them, or in a token that both contain, are compared in the target. If
the target follows from what they share, they agree in it more often than any two rows do. This takes no training, and
few rows: N of them make N² / 2 pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Predictability = Literal["constant", "random", "weak", "strong"]
"""random: nothing that was compared predicts the target. weak: something does a little, or there are too few pairs."""

MAX_ELEMENTS = 2**22
"""Elements of the comparison of pairs: [pairs, T]."""
MAX_COLUMNS = 64
"""Earlier ids whose pairs are compared: for a later target, the first and the last half of this."""
MIN_PAIRS = 40
"""Pairs of rows that share something, at least."""
MIN_ROWS = 24
"""Rows that contain a token, at least."""
CONSTANT = 0.999
VARIED = 0.5
"""Fraction of pairs that agree in a target by chance, up to which it is called random."""
MIN_Z = 6.0
"""Standard errors above chance. The largest of the 2,500 comparisons of random rows stays below 5."""
SOME = 0.15
MUCH = 0.3
"""Fraction of the way from chance to certainty."""


@dataclass(frozen=True)
class _Agreement:
    """n: pairs of rows that share something. k: those of them that agree in the target, too."""

    n: Tensor
    k: Tensor


class PredictableIds:
    """Compares rows of ids x [N, T] in pairs; all rows must differ."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        n, length = x.shape
        first, second = torch.triu_indices(n, n, offset=1)
        most = max(1, MAX_ELEMENTS // length)
        if len(first) > most:
            chosen = torch.randperm(len(first), generator=torch.Generator().manual_seed(0))[:most]
            first, second = first[chosen], second[chosen]
        self._first, self._second = first, second
        self._agree = (x[first] == x[second]).float()

    def target(self, y: Tensor, position: int) -> Predictability:
        """Return how well the targets y [N] of a position follow from x[:, : position + 1]."""
        agrees = (y[self._first] == y[self._second]).float()
        chance = float(agrees.mean())
        if chance > CONSTANT:
            return "constant"
        gains = [_gain(one, chance) for one in self._agreements(agrees, y, position)]
        best = max((float(gain.max()) for gain in gains if len(gain)), default=0.0)
        if best >= MUCH:
            return "strong"
        has_power = bool((self._agree[:, : position + 1].sum(dim=0) >= MIN_PAIRS).all())
        return "random" if best <= SOME and chance <= VARIED and has_power else "weak"

    def _agreements(self, agrees: Tensor, y: Tensor, position: int) -> Iterator[_Agreement]:
        shared = self._agree[:, : position + 1]
        yield _Agreement(shared.sum(dim=0), shared.T @ agrees)
        if shared.shape[1] > MAX_COLUMNS:
            shared = torch.cat([shared[:, : MAX_COLUMNS // 2], shared[:, -MAX_COLUMNS // 2 :]], dim=1)
        yield _Agreement((shared.T @ shared).flatten(), ((shared * agrees[:, None]).T @ shared).flatten())
        yield self._of_tokens(y, position)

    def _of_tokens(self, y: Tensor, position: int) -> _Agreement:
        """Compare the rows that contain a token before the target, wherever that is."""
        tokens, numbers = torch.unique(self._x[:, : position + 1], return_inverse=True)
        contains = torch.zeros(len(y), len(tokens)).scatter_(1, numbers, 1.0)
        contains = contains[:, contains.sum(dim=0) >= MIN_ROWS]
        values, classes = torch.unique(y, return_inverse=True)
        one_hot = torch.zeros(len(y), len(values)).scatter_(1, classes[:, None], 1.0)
        counts = contains.T @ one_hot
        rows = contains.sum(dim=0)
        return _Agreement(rows * (rows - 1) / 2, (counts * (counts - 1) / 2).sum(dim=1))


def _gain(agreement: _Agreement, chance: float) -> Tensor:
    """Return how far from chance to certainty each agreement is; 0 for those that chance explains."""
    n = agreement.n.clamp(min=1)
    z = (agreement.k - n * chance) / (n * chance * (1 - chance)).clamp(min=1e-9).sqrt()
    gain = (agreement.k / n - chance) / (1 - chance)
    return torch.where((agreement.n >= MIN_PAIRS) & (z >= MIN_Z), gain, 0.0)
