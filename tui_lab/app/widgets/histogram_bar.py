"""A line of cells: how often each stretch of a range was hit."""

from collections.abc import Iterable

LEVELS = "·▁▂▃▄▅▆▇█"


def strip(hits: Iterable[int], n: int, width: int) -> str:
    """`width` cells over 0 … n-1, higher where more of `hits` fall; a dot where none did."""
    counts = [0] * width
    for hit in hits:
        counts[min(width - 1, hit * width // n)] += 1
    most = max(counts, default=0)
    if most == 0:
        return LEVELS[0] * width
    return "".join(LEVELS[0] if c == 0 else LEVELS[max(1, round(c / most * (len(LEVELS) - 1)))] for c in counts)
