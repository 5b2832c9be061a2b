"""Does a masked language model train on copies of ids that it sees? Called by the check of the targets."""

from dataclasses import dataclass

from torch import Tensor

MIN_COPIES = 0.5
"""Fraction of the counted targets that are their own input. BERT's recipe (Devlin et al. 2019) has a tenth, on purpose:
of the positions that it selects, it leaves one in ten as it is."""
MIN_MASKED = 0.5
"""Fraction of the other counted positions whose input is one id, that of the mask: eight in ten by BERT's recipe."""
MIN_POSITIONS = 16
"""Of the mask, at least."""


@dataclass(frozen=True)
class MaskedCopies:
    """share: of the counted targets that are their own input. mask: the id in place of most of the others."""

    share: float
    mask: int


def masked_copies(x: Tensor, y: Tensor, ignored: int) -> MaskedCopies | None:
    """Return the copies among the targets y [B, T] of ids x; None if x shows no mask, or few targets are copies."""
    counted = y != ignored
    hidden = x[counted & (x != y)]
    if not len(hidden):
        return None
    mask = int(hidden.mode().values)
    n_masked = int((hidden == mask).sum())
    is_target = bool((y[counted] == mask).any())
    share = 1 - len(hidden) / int(counted.sum())
    if is_target or n_masked < max(MIN_POSITIONS, MIN_MASKED * len(hidden)) or share < MIN_COPIES:
        return None
    return MaskedCopies(share, mask)
