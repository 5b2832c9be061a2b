"""Hashes of all runs of n tokens in a text, and where some of them occur, in one pass and bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_lab.core.examples.measure import OnProgress
from tui_lab.data.shuffle import mix

Ids = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Tokens = npt.NDArray[Any]
BLOCK = 2**20
"""Tokens that are hashed at once."""
BASE = 0x9E3779B97F4A7C15
"""Odd, so that it has an inverse modulo 2^64."""
INVERSE = pow(BASE, -1, 2**64)
SIEVE_BITS = 22


def hashes(tokens: Tokens, n: int) -> UInt64s:
    """Return a hash of tokens[i : i + n] for each i: uint64 [len(tokens) - n + 1], empty if there are fewer tokens.

    Σ_j m(token[i + j]) B^j modulo 2^64, with a random-looking m, from differences of prefix sums (Karp and Rabin 1987).
    """
    if len(tokens) < n:
        return np.zeros(0, np.uint64)
    powers = _powers(BASE, len(tokens))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mix(tokens.astype(np.uint64)) * powers, dtype=np.uint64)])
    n_hashes = len(tokens) - n + 1
    rolling: UInt64s = (sums[n:] - sums[:n_hashes]) * _powers(INVERSE, n_hashes)
    return rolling


def _powers(base: int, n: int) -> UInt64s:
    """Return base^0 … base^(n-1) modulo 2^64."""
    factors = np.full(n, base, np.uint64)
    factors[0] = 1
    powers: UInt64s = np.cumprod(factors, dtype=np.uint64)
    return powers


@dataclass(frozen=True)
class Hits:
    """Where wanted hashes occur. which: indices into the wanted ones; at: positions in the text, of the same shape."""

    which: Ids
    at: Ids


class Places:
    """The first places of each of n hashes, `most` of each, and how often each occurs in all."""

    def __init__(self, n: int, most: int) -> None:
        self.counts = np.zeros(n, np.int64)
        self._most = most
        self._hits: list[Hits] = []

    def add(self, hits: Hits) -> None:
        """Take the hits of the next block."""
        order = np.argsort(hits.which, kind="stable")
        which, at = hits.which[order], hits.at[order]
        first = np.searchsorted(which, which)
        kept = self.counts[which] + np.arange(len(which)) - first < self._most
        self._hits.append(Hits(which[kept], at[kept]))
        self.counts += np.bincount(which, minlength=len(self.counts))

    def by_hash(self) -> list[Ids]:
        """Return the places of each hash, in their order in the text."""
        empty = np.zeros(0, np.int64)
        which = np.concatenate([empty, *(hits.which for hits in self._hits)])
        at = np.concatenate([empty, *(hits.at for hits in self._hits)])
        order = np.argsort(which, kind="stable")
        return np.split(at[order], np.searchsorted(which[order], np.arange(1, len(self.counts))))


class Wanted:
    """A set of hashes to look for. hashes: sorted, each once."""

    def __init__(self, hashes: UInt64s) -> None:
        self.hashes = np.unique(hashes)
        # Most hashes of a text are not wanted: a table of bits refuses them faster than a binary search does.
        self._sieve = np.zeros(2**SIEVE_BITS, np.bool_)
        self._sieve[self._bits(self.hashes)] = True

    @staticmethod
    def _bits(hashes: UInt64s) -> Ids:
        return (hashes >> np.uint64(64 - SIEVE_BITS)).astype(np.int64)

    def __len__(self) -> int:
        return len(self.hashes)

    def index(self, hashes: UInt64s) -> Ids:
        """Return the indices of hashes that are in the set."""
        return np.searchsorted(self.hashes, hashes)

    def find(self, hashes: UInt64s, offset: int = 0) -> Hits:
        """Return which of the wanted hashes are among `hashes`, and where, counted from `offset`."""
        at = np.flatnonzero(self._sieve[self._bits(hashes)])
        which = np.searchsorted(self.hashes, hashes[at])
        same = which < len(self.hashes)
        same[same] = self.hashes[which[same]] == hashes[at[same]]
        return Hits(which[same], at[same] + offset)


def occurrences(text: Tokens, n: int, wanted: Wanted, report: OnProgress, what: str) -> Iterator[Hits]:
    """Yield where the wanted hashes of n tokens occur in a text, a block at a time."""
    last = len(text) - n + 1
    for start in range(0, max(0, last), BLOCK):
        report(what, start, last)
        yield wanted.find(hashes(np.asarray(text[start : start + BLOCK + n - 1]), n), start)
    report(what, last, last)
