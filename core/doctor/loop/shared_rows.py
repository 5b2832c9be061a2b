"""Finds rows of a validation part that a loop also trains on, or windows of a stream that nearly are such rows."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.loop.observed import SharedRows
from tui_lab.core.watch.code.data_parts import data_part, is_validation

MIN_VALUES = 8
"""Values of a row of real numbers, at least."""
MIN_IDS = 16
"""Ids of a row, at least: shorter rows repeat by chance in any text."""
MAX_VALUES = 2**21
"""Values of all rows of one length that are kept."""
MAX_SHIFT = 256
MAX_EVALUATED = 256
"""Rows of the validation part that are compared."""
SHARE_OF_SHIFT = 0.25
"""Of a row's length, by which windows of a stream may be shifted against each other."""
CHUNK = 32
"""Training rows in a row among which repetitions are counted: usually fewer than one pass over the data."""
MAX_REPEATED = 0.02
"""Fraction of training rows that repeat within a chunk, up to which equal rows are no coincidence. A data set of so few
different rows that half of another draw from it would be among 250 batches of 16 has 5 % or more."""
MAX_HITS = 0.25
"""Matches of a row by chance up to which a match is evidence."""


@dataclass
class _Rows:
    """Rows of one length."""

    trained: list[Tensor] = field(default_factory=list)
    evaluated: list[Tensor] = field(default_factory=list)
    line: str = ""

    def n_values(self) -> int:
        return sum(rows.numel() for rows in self.trained)


class RowsWatch:
    """Keeps rows of x [B, …] that were trained on, and those of validation parts."""

    def __init__(self) -> None:
        self._rows: dict[tuple[int, bool], _Rows] = {}

    def to_train(self, x: Tensor | None) -> Callable[[], None]:
        """The model is called with x, with gradients; what is returned adds the rows to those that are trained."""
        rows = self._kept(x)
        return (lambda: None) if rows is None else (lambda: self._add_trained(rows))

    def _add_trained(self, rows: Tensor) -> None:
        same = self._of(rows)
        if same.n_values() + rows.numel() <= MAX_VALUES:
            same.trained.append(rows)

    def evaluated(self, x: Tensor | None) -> None:
        """The model was called with x without gradients."""
        rows = self._kept(x)
        if rows is None or not is_validation(data_part(sys._getframe(1)).name):
            return
        same = self._of(rows)
        if sum(map(len, same.evaluated)) < MAX_EVALUATED:
            same.line = same.line or user_line()
            same.evaluated.append(rows[:MAX_EVALUATED])

    @property
    def results(self) -> tuple[SharedRows, ...]:
        """Compare rows of each length."""
        compared = []
        for (length, is_ids), rows in self._rows.items():
            if not rows.evaluated or not rows.trained:
                continue
            trained = torch.cat(rows.trained)
            evaluated = torch.unique(torch.cat(rows.evaluated)[:MAX_EVALUATED], dim=0)
            shift = min(int(SHARE_OF_SHIFT * length), MAX_SHIFT) if is_ids else 0
            repeated = repeated_share(trained, shift)
            half, other_half = halves(trained)
            same = shared_rows(trained, evaluated, 0)
            near = shared_rows(trained, evaluated, shift) if shift else same
            compared.append(
                SharedRows(
                    n=len(evaluated),
                    n_same=int(same.sum()),
                    n_near=int((near & ~same).sum()),
                    n_trained=len(torch.unique(trained, dim=0)),
                    n_halved=len(half),
                    n_shared_halved=int(shared_rows(other_half, half, shift).sum()),
                    length=length,
                    is_by_chance=repeated > MAX_REPEATED or _expected_hits(trained, shift) > MAX_HITS,
                    line=rows.line,
                )
            )
        return tuple(compared)

    def _of(self, rows: Tensor) -> _Rows:
        return self._rows.setdefault((rows.shape[1], rows.dtype == torch.int32), _Rows())

    def _kept(self, x: Tensor | None) -> Tensor | None:
        """Return rows [B, N] as int32 for ids, and as the bits of real numbers in int64 otherwise."""
        if x is None or x.dim() < 2 or not len(x) or x.numel() > MAX_VALUES:
            return None
        rows = x.detach()[:MAX_EVALUATED].flatten(1).cpu()
        is_ids = not rows.is_floating_point() and x.dim() == 2
        if rows.shape[1] < (MIN_IDS if is_ids else MIN_VALUES) or rows.is_complex():
            return None
        if is_ids:
            return rows.to(torch.int32)
        return rows.float().contiguous().view(torch.int32).to(torch.int64)


def repeated_share(rows: Tensor, shift: int) -> float:
    """Return the fraction of rows [N, T] that equal another of the same chunk, in T - shift values at one place."""
    n = len(rows) // CHUNK * CHUNK
    if not n:
        return 1.0  # Too few to tell.
    sums, _ = _sums(rows[:n])
    is_repeated = torch.zeros(n, dtype=torch.bool)
    length = rows.shape[1] - shift
    for start in range(shift + 1):
        parts = (sums[:, start + length] - sums[:, start]).view(-1, CHUNK)
        order = parts.sort(dim=1)
        equal = order.values[:, 1:] == order.values[:, :-1]
        pairs = torch.nn.functional.pad(equal, (0, 1)) | torch.nn.functional.pad(equal, (1, 0))
        is_repeated |= torch.zeros_like(pairs).scatter(1, order.indices, pairs).flatten()
    return float(is_repeated.double().mean())


def halves(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return two halves of rows [N, T] at random, the first of MAX_EVALUATED rows at most."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    n = len(rows) // 2
    return rows[order[: min(n, MAX_EVALUATED)]], rows[order[n:]]


def _expected_hits(rows: Tensor, shift: int) -> float:
    """Return how often a row matches one of `rows` [N, T] by chance, as the phrases of a small grammar do.

    Windows of a stream that agree in most values at one place are one window. Where the rest differs, it was chance.
    """
    if not shift or len(rows) < CHUNK:
        return 0.0
    by_chance = repeated_share(rows, shift) - repeated_share(rows, 0)
    return max(0.0, by_chance) / (CHUNK - 1) * len(rows) * (2 * shift + 1)


def shared_rows(trained: Tensor, evaluated: Tensor, shift: int) -> Tensor:
    """Return which rows of `evaluated` [M, T] agree with one of `trained` [N, T], shifted by up to `shift` places."""
    ours, powers = _sums(evaluated)
    theirs, _ = _sums(trained)
    length = evaluated.shape[1]
    agree = torch.zeros(len(evaluated), dtype=torch.bool)
    for start in range(shift + 1):
        begin_of_ours = ours[:, length - start] * powers[start]
        begin_of_theirs = theirs[:, length - start]
        agree |= torch.isin(begin_of_ours, theirs[:, length] - theirs[:, start])
        agree |= torch.isin(ours[:, length] - ours[:, start], begin_of_theirs * powers[start])
    return agree


def _sums(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ_{i<t} c^i · hash(row[i]) modulo 2**64 [N, T + 1], and the powers of c."""
    factor = 0x5851F42D4C957F2D - 2**63
    values = rows.to(torch.int64)
    values = (values + 0x9E3779B9) * (0x2545F4914F6CDD1D)
    values = values ^ (values >> 29)
    powers = torch.full((rows.shape[1],), factor, dtype=torch.int64).cumprod(0)
    powers = torch.cat([torch.ones(1, dtype=torch.int64), powers])
    sums = (values * powers[:-1]).cumsum(1)
    return torch.nn.functional.pad(sums, (1, 0)), powers
