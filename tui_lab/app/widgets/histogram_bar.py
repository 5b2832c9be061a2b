"""A histogram on one line of text."""

from collections.abc import Iterable

LEVELS = "·▁▂▃▄▅▆▇█"


def histogram_bar(hits: Iterable[int], n: int, width: int) -> str:
    """Return `width` characters over 0 … n - 1, the higher the more hits fall there; a dot for none."""
    counts = [0] * width
    for hit in hits:
        counts[min(width - 1, hit * width // n)] += 1
    most = max(counts, default=0)
    if most == 0:
        return LEVELS[0] * width
    top = len(LEVELS) - 1
    return "".join(LEVELS[max(1, round(count / most * top))] if count else LEVELS[0] for count in counts)
