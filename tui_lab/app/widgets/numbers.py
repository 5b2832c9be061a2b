"""Numbers as short text."""

import math
from collections.abc import Sequence

LARGEST_WHOLE = 1e9
"""Larger numbers are written with an exponent."""


def short_number(value: float) -> str:
    """Return a value with four significant digits; whole numbers from 10,000 on keep all of theirs."""
    if 1e4 <= abs(value) < LARGEST_WHOLE:
        return f"{value:,.0f}"
    return without_zeros(f"{value:,.4g}")


def without_zeros(text: str) -> str:
    """Return a number in scientific notation without the zeros and the plus of its exponent: 2e-05 as 2e-5."""
    digits, e, exponent = text.partition("e")
    return f"{digits}e{int(exponent)}" if e else text


def evenly(ticks: Sequence[float]) -> list[str]:
    """Return evenly spaced numbers, all with as many decimals as their distance needs."""
    if len(ticks) < 2:
        return [short_number(tick) for tick in ticks]
    distance = ticks[1] - ticks[0]
    power = math.floor(math.log10(distance) + 1e-6)
    if power < -6 or max(abs(ticks[0]), abs(ticks[-1])) >= LARGEST_WHOLE:
        return [without_zeros(f"{0.0 if abs(tick) < distance / 2 else tick:.4g}") for tick in ticks]
    return [f"{0.0 if abs(tick) < distance / 2 else tick:,.{max(0, -power)}f}" for tick in ticks]
