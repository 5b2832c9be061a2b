"""The order in which examples are drawn: a seeded bijection, so that no permutation is ever held in memory."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

Shuffle = Literal["epoch", "once", "off"]
Indices = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# Luby and Rackoff 1988 need 4 rounds for a strong pseudorandom permutation; small halves mix slower, so twice.
ROUNDS = 8
BLOCK = 4096
"""Draws that are looked up at once, at most."""


def mix(words: Words) -> Words:
    """SplitMix64's finalizer (Steele, Lea, Flood 2014), element by element: uint64 of any shape to the same."""
    z = words + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: Words = z ^ (z >> np.uint64(31))
    return out


def hash_key(*parts: int) -> int:
    """One 64-bit key of several integers, the same on every machine."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = mix(key ^ np.uint64(part % 2**64))
    return int(key[0])


def permute(positions: Indices, n: int, key: int) -> Indices:
    """Where a keyed bijection of range(n) sends `positions` (int64, any shape, each in [0, n)).

    A balanced Feistel network over the next even power of two, walked until it falls inside range(n)
    (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Memory is that of `positions`.
    """
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    round_keys = mix(np.arange(ROUNDS, dtype=np.uint64) ^ np.uint64(key))
    out = _feistel(positions.astype(np.uint64), half, round_keys)
    outside = out >= n
    while outside.any():
        out[outside] = _feistel(out[outside], half, round_keys)
        outside = out >= n
    return out.astype(np.int64)


def _feistel(values: Words, half: int, round_keys: Words) -> Words:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = values >> shift, values & mask
    for key in round_keys:
        left, right = right, left ^ (mix(right ^ key) & mask)
    out: Words = (left << shift) | right
    return out


@dataclass(frozen=True)
class Order:
    """The order state: how draw number k of the run becomes an example id in range(n)."""

    mode: Shuffle
    seed: int
    n: int

    def epoch_of(self, draw: int) -> int:
        return draw // self.n

    def draw(self, draws: Indices) -> Indices:
        """Example ids for draw numbers (int64, one-dimensional); a pass over range(n) is an epoch."""
        epochs, positions = np.divmod(draws, self.n)
        if self.mode == "off":
            return positions
        ids = np.empty_like(positions)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            ids[here] = permute(positions[here], self.n, self._key(int(epoch)))
        return ids

    def run(self, first: int, count: int) -> Indices:
        """Example ids of the draws `first` … `first + count - 1`, made a block at a time: fifty small numpy calls for
        each batch would cost a small model a twentieth of its step."""
        size = min(BLOCK, self.n)  # Not more than an epoch, since each has an order of its own to work out.
        blocks = [_block(self, number, size) for number in range(first // size, (first + count - 1) // size + 1)]
        skipped = first % size
        return np.concatenate(blocks)[skipped : skipped + count]

    def head(self, epoch: int, length: int = 8) -> tuple[int, ...]:
        """The first `length` example ids of an epoch's order."""
        positions = np.arange(min(length, self.n), dtype=np.int64)
        return tuple(int(i) for i in self.draw(positions + epoch * self.n))

    def _key(self, epoch: int) -> int:
        return hash_key(self.seed, epoch if self.mode == "epoch" else 0)


@lru_cache(maxsize=4)
def _block(order: Order, number: int, size: int) -> Indices:
    ids = order.draw(np.arange(number * size, (number + 1) * size, dtype=np.int64))
    ids.flags.writeable = False
    return ids
