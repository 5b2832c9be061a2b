"""What each head looks at in one example: its map of weights, how sharp it is, and where it mostly goes."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Queries = npt.NDArray[np.bool_]
NAMED = 0.5
"""A head has a pattern once this share of its weight goes there: more than to all other positions together."""


@dataclass(frozen=True)
class AttentionMaps:
    """weights: [L, H, n, n], read only, query by key. n is T, or where that would be too large the number of blocks of
    `block` × `block` positions, each the largest weight within; length: T."""

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
        """Whether any query has weight on a later position: no causal mask."""
        return bool(np.triu(self.weights, k=1).any())


@dataclass(frozen=True)
class Head:
    """One head in words. sharpness: 0 spreads evenly over all it may see, 1 looks at one position only; pattern: where
    at least half of its weight goes, "" where nowhere in particular; share: of its weight, there."""

    layer: int
    head: int
    sharpness: float
    pattern: str
    share: float


def sharpness(weights: Floats, queries: Queries) -> float:
    """One minus the entropy over the largest that it can have, ln(t + 1), meaned over the queries chosen: [T, T], [T].

    The first query sees itself alone: it says nothing, and is left out.
    """
    chosen = np.flatnonzero(queries)
    chosen = chosen[chosen > 0]
    if not len(chosen):
        return 0.0
    rows = weights[chosen].astype(np.float64)
    entropy = -(rows * np.log(np.maximum(rows, 1e-12))).sum(axis=1)
    return float(np.clip(1 - entropy / np.log(chosen + 1), 0, 1).mean())


def pattern(weights: Floats, queries: Queries) -> tuple[str, float]:
    """Where most of the weight of the chosen queries goes, and which share of it: [T, T], [T]."""
    T = weights.shape[0]
    t = np.flatnonzero(queries)
    places = {"itself": t, "the token before": t - 1, "the first token": 0 * t, "the mirrored place": T - 1 - t}
    shares = {}
    for name, s in places.items():
        seen = s >= 0
        shares[name] = float(weights[t[seen], s[seen]].sum() / max(1, len(t)))
    name = max(shares, key=lambda each: shares[each])
    return (name, shares[name]) if shares[name] >= NAMED else ("", math.nan)


def heads_of(maps: AttentionMaps, queries: Queries) -> list[Head]:
    """Every head in words, the sharpest first. queries: [T], those that count; all of them where none is chosen.

    Blocks of positions have no weights that sum to one: where the maps are in blocks there is nothing to say.
    """
    if maps.block > 1:
        return []
    queries = queries if queries.any() else np.ones(maps.length, dtype=bool)
    found = []
    for layer in range(maps.layers):
        for head in range(maps.heads):
            weights = maps.weights[layer, head]
            found.append(Head(layer, head, sharpness(weights, queries), *pattern(weights, queries)))
    return sorted(found, key=lambda each: -each.sharpness)
