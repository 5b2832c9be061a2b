"""How much faster a script is with a change: the ratios of the rounds, and what they show."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.watch.speed.turns import AS_IT_IS, TOO_SLOW, Block

Effect = Literal["faster", "slower", "none", "unclear"]
"""none: less than `SMALL`. unclear: too few rounds, or they disagree."""
SMALL = 0.03
CHANCE = 0.05
"""The rounds show a difference if so many on one side have a smaller probability without one (a sign test)."""
MIN_BLOCKS = 2
"""Of the script as it is: if there are more, a change with one block was so slow that it was not tried again."""
LARGE = 1.25
"""Two rounds or more show a difference if all differ by this factor."""


@dataclass(frozen=True)
class Ratio:
    """How many times as fast: the median of the rounds and its quartiles."""

    effect: Effect
    median: float
    low: float
    high: float
    n_rounds: int


def ratio_of(change: str, blocks: Sequence[Block]) -> Ratio | None:
    """Return how many times as fast the script is with a change; None if no block of it was measured."""
    base = {block.round: block.seconds for block in blocks if block.change == AS_IT_IS}
    ratios = [
        _around(base, block.round) / block.seconds for block in blocks if block.change == change and block.seconds > 0
    ]
    if not ratios:
        return None
    low, median, high = statistics.quantiles(ratios, method="inclusive") if len(ratios) > 1 else ratios * 3
    was_dropped = len(ratios) == 1 and (len(base) > MIN_BLOCKS or median < 1 / TOO_SLOW)
    effect: Effect = "slower" if was_dropped else _effect(ratios, median)
    return Ratio(effect, median, low, high, len(ratios))


def _around(base: dict[int, float], round_: int) -> float:
    """Return the seconds of the script as it is, before and after the changes of a round."""
    return statistics.fmean([base[each] for each in (round_, round_ + 1) if each in base])


def _effect(ratios: Sequence[float], median: float) -> Effect:
    if len(ratios) > 1 and (min(ratios) >= LARGE or max(ratios) <= 1 / LARGE):
        return "faster" if median > 1 else "slower"
    n_faster = sum(ratio > 1 for ratio in ratios)
    if _chance(max(n_faster, len(ratios) - n_faster), len(ratios)) > CHANCE:
        return "unclear" if abs(median - 1) >= SMALL else "none"
    if abs(median - 1) < SMALL:
        return "none"
    return "faster" if median > 1 else "slower"


def _chance(n: int, total: int) -> float:
    """Return the probability of at least n heads of `total` fair coins."""
    return sum(math.comb(total, k) for k in range(n, total + 1)) / 2.0**total
