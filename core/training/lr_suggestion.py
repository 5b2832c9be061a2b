"""Suggestions for the learning rate from the losses of a range test.

Four rules that other libraries use; which one is meant is always said with its value, because none of them is right for
every model. Written after their descriptions, on losses smoothed without a lag: a running mean, as fastai and Lightning
have it, shows a fall of the loss at a rate several times higher than the one that caused it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW_DECADES = 0.12
"""Standard deviation of the smoothing, in decades of the learning rate."""
LEAST_FALL = 0.02
"""Of the loss at the start: a smaller fall may be noise, and is not a basis for a suggestion."""
FALL_OF_NOISE = 3.0
"""Standard deviations of the smoothed losses: a smaller fall may be the lowest of many noisy values."""
NOISY = 0.5
"""Of the fall of the loss: where the losses of batches scatter more, a suggestion may be of their noise."""
BEGUN = 0.1
"""Of the fall of the loss, that has to be behind a rate where it falls fastest."""
FIRST_PART = 8
"""The loss at the start is that of this part of the rates: one eighth."""
FEWEST = 10
"""Rates that a suggestion needs."""
SLIDE_DECADES = 1.0
SLIDE_THRESHOLD = 0.25
"""Of the steepest fall."""


@dataclass(frozen=True)
class Rule:
    """How a suggestion is found. about: what it is; source: whose rule it is, in full in docs/guide/training.md."""

    index: Callable[[Floats, Floats], float]
    about: str
    source: str


GRADIENT_DESCENT = frozenset({"sgd", "momentum", "asgd", "nesterov"})
"""Optimizers whose updates are as large as the gradient."""


def default_range(optimizer: str) -> tuple[float, float]:
    """Return the lowest and the highest rate to test: plain gradient descent needs far larger ones than Adam.

    optimizer: a value of `optim.name`, or the name of an optimizer's class.
    """
    return (1e-4, 100.0) if optimizer.lower() in GRADIENT_DESCENT else (1e-6, 1.0)


def smooth(rates: Sequence[float], losses: Sequence[float]) -> Floats:
    """Return the losses, each averaged with its neighbors by a Gaussian over the logarithm of the learning rate."""
    if not len(rates):
        return np.zeros(0)
    return np.asarray(_weights(rates) @ np.asarray(losses, dtype=float))


def _weights(rates: Sequence[float]) -> Floats:
    """Return the weight of each loss in each mean [mean, loss]."""
    decades = np.log10(np.asarray(rates, dtype=float))
    weights = np.exp(-0.5 * ((decades[:, None] - decades[None, :]) / WINDOW_DECADES) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def suggestions(rates: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    """Return a learning rate by each of `RULES`, the recommended one first; none if the loss does not fall.

    rates: rising, evenly spaced in their logarithm. losses: finite, after an update with each rate.
    """
    if len(rates) < FEWEST or not falls(rates, losses):
        return {}
    decades = np.log10(np.asarray(rates, dtype=float))
    loss = smooth(rates, losses)
    return {name: float(10 ** rule.index(decades, loss)) for name, rule in RULES.items()}


def falls(rates: Sequence[float], losses: Sequence[float]) -> bool:
    """Return whether the smoothed loss falls by more than noise."""
    loss = smooth(rates, losses)
    noise_of_means = noise(rates, losses) * float(np.sqrt((_weights(rates) ** 2).sum(axis=1).max()))
    least = max(LEAST_FALL * abs(loss[0]), FALL_OF_NOISE * noise_of_means)
    return bool(_start(loss) - loss.min() >= least)


def _start(loss: Floats) -> float:
    """Return the loss before it falls: the mean of the first smoothed ones, since one may be high by chance."""
    return float(loss[: max(1, len(loss) // FIRST_PART)].mean())


def noise(rates: Sequence[float], losses: Sequence[float]) -> float:
    """Return by how much the losses of batches scatter up to the lowest smoothed one, as a standard deviation.

    It is that of differences between neighbors, divided by √2, so that a steady fall counts little.
    """
    until_lowest = np.asarray(losses, dtype=float)[: int(smooth(rates, losses).argmin()) + 1]
    return float(np.std(np.diff(until_lowest)) / math.sqrt(2)) if len(until_lowest) > 2 else 0.0


def is_noisy(rates: Sequence[float], losses: Sequence[float]) -> bool:
    """Return whether the losses of batches scatter so much that a suggestion may be of their noise."""
    loss = smooth(rates, losses)
    return noise(rates, losses) > NOISY * (_start(loss) - float(loss.min()))


def lowest(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    """Return the rate with the lowest smoothed loss, and that loss."""
    loss = smooth(rates, losses)
    at = int(loss.argmin())
    return float(rates[at]), float(loss[at])


def _minimum(decades: Floats, loss: Floats) -> float:
    return float(decades[loss.argmin()]) - 1.0


def _steepest(decades: Floats, loss: Floats) -> float:
    # Behind the minimum a fall is only the return from a rise, and before the loss has begun to fall it is noise.
    lowest_at = int(loss.argmin())
    start = _start(loss)
    has_begun = start - loss[: lowest_at + 1] >= BEGUN * (start - loss[lowest_at])
    not_begun = np.flatnonzero(~has_begun)
    first = min(int(not_begun[-1]) + 1, lowest_at) if len(not_begun) else 0
    end = max(first + 1, lowest_at + 1)
    return float(decades[first + int(np.gradient(loss, decades)[first:end].argmin())])


def _valley(decades: Floats, loss: Floats) -> float:
    first, last = _longest_fall(loss)
    return float((decades[first] + decades[last]) / 2)


def _longest_fall(loss: Floats) -> tuple[int, int]:
    """Return the first and the last index of the longest subsequence that falls at each of its points."""
    lengths = np.ones(len(loss), dtype=int)
    before = np.full(len(loss), -1)
    for i in range(1, len(loss)):
        higher = np.flatnonzero(loss[:i] > loss[i])
        if len(higher):
            before[i] = higher[lengths[higher].argmax()]
            lengths[i] = lengths[before[i]] + 1
    last = first = int(lengths.argmax())
    while before[first] >= 0:
        first = int(before[first])
    return first, last


def _slide(decades: Floats, loss: Floats) -> float:
    slope = np.gradient(loss, decades)
    limit = SLIDE_THRESHOLD * abs(slope[: int(loss.argmin()) + 1].min())
    width = max(1, round(SLIDE_DECADES / float(decades[1] - decades[0])))
    right = len(loss) - 1
    while right > width and abs(slope[right] - slope[right - width]) > limit:
        right -= 1
    return float(decades[max(0, right - width)])


RULES: dict[str, Rule] = {
    "steepest": Rule(_steepest, "where the loss falls fastest", "Smith 2017; Lightning"),
    "minimum": Rule(_minimum, "a tenth of the rate with the lowest loss", "fastai"),
    "valley": Rule(_valley, "the middle of the longest fall of the loss", "ESRI; fastai's default"),
    "slide": Rule(_slide, "below the last bend of the loss", "Chang 2019; fastai"),
}


def leaves_the_start(losses: Sequence[float]) -> bool:
    """Return whether the last losses are so far above all others that the training has diverged, and not by noise."""
    if not all(map(math.isfinite, losses[-RECENT:])):
        return True
    if len(losses) < FEWEST_OF_DIVERGED:
        return False
    recent = losses[-RECENT:]
    is_far_above = min(recent) > DIVERGED * float(np.mean(losses[:RECENT]))
    return is_far_above and float(np.mean(recent)) > max(losses[:-RECENT])


RECENT = 5
"""Losses that are looked at together."""
FEWEST_OF_DIVERGED = 20
"""Losses before which a rise may be noise."""
DIVERGED = 1.5
