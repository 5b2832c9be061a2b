"""Where each attention head looks in one example: its weights, how sharp they are, and where most of them go."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Queries = npt.NDArray[np.bool_]
PATTERN_SHARE = 0.5
"""The fraction of a head's weight from which a pattern is named: more than goes to all other positions together."""


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of one example, read-only.

    weights: [L, H, n, n], query by key. n is the number of positions, or of blocks of `block` × `block` positions, each
    with its largest weight, if the maps would be too large. length: the number of positions T.
    """

    weights: Floats
    length: int
    block: int = 1

    @property
    def layers(self) -> int:
        return int(self.weights.shape[0])

    @property
    def heads(self) -> int:
        return int(self.weights.shape[1])

    @property
    def sees_later(self) -> bool:
        """Whether any query has weight on a later position, as without a causal mask."""
        return bool(np.triu(self.weights, k=1).any())


@dataclass(frozen=True)
class Head:
    """A summary of one head.

    sharpness: 0 if it spreads evenly over all visible positions, 1 if it looks at one position only.
    pattern: where at least half of its weight goes, "" if nowhere in particular. share: of its weight, there.
    """

    layer: int
    head: int
    sharpness: float
    pattern: str
    share: float


def sharpness(weights: Floats, queries: Queries) -> float:
    """Return 1 − entropy / ln(t + 1), its largest value, averaged over the selected queries: [T, T], [T].

    The first query is left out, since it can see only itself.
    """
    selected = np.flatnonzero(queries)
    selected = selected[selected > 0]
    if not len(selected):
        return 0.0
    rows = weights[selected].astype(np.float64)
    entropy = -(rows * np.log(np.maximum(rows, 1e-12))).sum(axis=1)
    return float(np.clip(1 - entropy / np.log(selected + 1), 0, 1).mean())


def pattern(weights: Floats, queries: Queries) -> tuple[str, float]:
    """Return where most of the weight of the selected queries goes, and what fraction of it: [T, T], [T]."""
    T = weights.shape[0]
    t = np.flatnonzero(queries)
    keys_by_name = {"itself": t, "the token before": t - 1, "the first token": 0 * t, "the mirrored place": T - 1 - t}
    shares = {}
    for name, s in keys_by_name.items():
        exists = s >= 0
        shares[name] = float(weights[t[exists], s[exists]].sum() / max(1, len(t)))
    name = max(shares, key=lambda each: shares[each])
    return (name, shares[name]) if shares[name] >= PATTERN_SHARE else ("", math.nan)


def heads_of(maps: AttentionMaps, queries: Queries) -> list[Head]:
    """Return a summary of every head, the sharpest first; none for maps in blocks, whose weights do not sum to one.

    queries: [T], those that count; if none is selected, all count.
    """
    if maps.block > 1:
        return []
    queries = queries if queries.any() else np.ones(maps.length, dtype=bool)
    heads = []
    for layer in range(maps.layers):
        for head in range(maps.heads):
            weights = maps.weights[layer, head]
            heads.append(Head(layer, head, sharpness(weights, queries), *pattern(weights, queries)))
    return sorted(heads, key=lambda head: -head.sharpness)
