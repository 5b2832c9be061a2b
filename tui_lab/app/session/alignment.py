"""How the targets of a batch follow from its inputs: the next token, a copy, reversed, or another fixed offset."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.data.dataset import IGNORED

Ids = npt.NDArray[np.int64]
FARTHEST_OFFSET = 64
CLEAR_SHARE = 0.9
"""The fraction of the targets that must fit."""
MEANINGS = {
    1: "y[t] = x[t+1] for {} of the targets: the next token",
    0: "y[t] = x[t] for {} of the targets: a copy, which the model may shift",
}


@dataclass(frozen=True)
class Alignment:
    """text: one line. next_token: whether the targets are the next tokens."""

    text: str
    next_token: bool = False


def alignment(x: Ids, y: Ids) -> Alignment:
    """Return how y follows from x: int64 [R, T]; y is IGNORED where there is no target."""
    if y.shape != x.shape:
        return Alignment("x and y have different shapes, so there is no target for each token")
    if not (y != IGNORED).any():
        return Alignment("the loss ignores every target of these rows")
    # max keeps the first of equals, so the usual alignments come first.
    share, text, next_token = max(_candidates(x, y), key=lambda candidate: candidate[0])
    if share < CLEAR_SHARE:
        return Alignment("no fixed offset between x and y: the targets are not x shifted, copied or reversed")
    return Alignment(text.format(f"{math.floor(100 * share)} %"), next_token)


def _candidates(x: Ids, y: Ids) -> Iterator[tuple[float, str, bool]]:
    """Give for each possible alignment the fraction of targets that fit, its text, and whether it is the next token."""
    T = x.shape[1]
    yield _share(x, y, 1), MEANINGS[1], True
    yield _share(x, y, 0), MEANINGS[0], False
    yield _share(x[:, ::-1], y, 0), "y[t] = x[T-1-t] for {} of the targets: x reversed", False
    for distance in range(1, min(FARTHEST_OFFSET, T - 1) + 1):
        for offset in (-distance, distance):
            yield _share(x, y, offset), f"y[t] = x[t{offset:+}] for {{}} of the targets: a fixed offset", False


def _share(x: Ids, y: Ids, offset: int) -> float:
    """Return the fraction of the targets with y[t] = x[t + offset], among those for which x has that position.

    0 if that is less than half of the targets, which says too little.
    """
    T = x.shape[1]
    from_t, to_t = max(0, -offset), min(T, T - offset)
    targets = y[:, from_t:to_t]
    is_target = targets != IGNORED
    n_comparable = int(is_target.sum())
    if n_comparable == 0 or 2 * n_comparable < int((y != IGNORED).sum()):
        return 0.0
    fits = (targets == x[:, from_t + offset : to_t + offset]) & is_target
    return int(fits.sum()) / n_comparable
