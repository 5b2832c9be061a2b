"""Numbers of an axis as short text."""

import math
from collections.abc import Sequence

from tui_lab.runs.numbers import LARGEST_WHOLE, short_number, without_zeros


def evenly(ticks: Sequence[float]) -> list[str]:
    """Return evenly spaced numbers, all with as many decimals as their distance needs."""
    if len(ticks) < 2:
        return [short_number(tick) for tick in ticks]
    distance = ticks[1] - ticks[0]
    power = math.floor(math.log10(distance) + 1e-6)
    if power < -6 or max(abs(ticks[0]), abs(ticks[-1])) >= LARGEST_WHOLE:
        return [without_zeros(f"{0.0 if abs(tick) < distance / 2 else tick:.4g}") for tick in ticks]
    return [f"{0.0 if abs(tick) < distance / 2 else tick:,.{max(0, -power)}f}" for tick in ticks]
