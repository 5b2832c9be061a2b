"""What is measured inside a model, as data. Imports no torch, so that the app can read what a script measured."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.core.commands import Replacement

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LogitLens:
    """What each of P places would answer at each of T positions of one example; read-only.

    places: "embedding", then the name of each layer, P. read_out: the modules that make logits of the stream.
    top, probabilities: the likeliest tokens, [P, T, k]. target_probabilities, losses (nats): of the target, [P, T], NaN
    where it is ignored. ranks: of the target, 1 for the likeliest token, [P, T], 0 where it is ignored.
    """

    places: tuple[str, ...]
    read_out: str
    top: Ids
    probabilities: Floats
    target_probabilities: Floats
    losses: Floats
    ranks: Ids


@dataclass(frozen=True)
class PartLosses:
    """Mean losses in nats per target, read-only: base with nothing taken out, the others without one part of a layer.

    heads: [L, H]. attention, feed_forward: [L]. NaN where the model has no such part, or no row has a target.
    """

    base: float
    heads: Floats
    attention: Floats
    feed_forward: Floats


@dataclass(frozen=True)
class Ablation:
    """The losses of one example, and the mean over the targets of `n_others` other rows; layers: their names."""

    layers: tuple[str, ...]
    how: Replacement
    example: PartLosses
    others: PartLosses
    n_others: int


@dataclass(frozen=True)
class StreamNorms:
    """Euclidean norms at each of T positions of one example; read-only.

    places: "embedding", then the name of each layer, L + 1. stream: after each of them, [L + 1, T]. attention,
    feed_forward: of what they add, before any LayerNorm, [L, T]; NaN where it is not available.
    """

    places: tuple[str, ...]
    stream: Floats
    attention: Floats
    feed_forward: Floats


LookResult = LogitLens | Ablation | StreamNorms | str
"""A measurement, or why there is none, as a sentence."""
