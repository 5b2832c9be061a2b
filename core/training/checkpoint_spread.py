"""Which of a run's automatic checkpoints stay, so that a replay can be forked from many places."""

from collections.abc import Collection
from pathlib import Path

from tui_lab.core.training.checkpoint_names import n_bytes, step_of

MOST = 8
"""Automatic checkpoints that stay besides the newest, the best and those saved by hand, at most."""
MOST_BYTES = 2**26
"""What they may take on disk together."""


def spread(candidates: Collection[Path], others: Collection[Path], most_bytes: int) -> set[Path]:
    """Return the candidates that stay: as many as fit, with steps as evenly spread as possible.

    others: checkpoints that stay in any case; a candidate near one of them goes first.
    """
    kept = sorted(candidates, key=step_of)
    sizes = {path: n_bytes(path) for path in kept}
    while kept and (len(kept) > MOST or sum(sizes[path] for path in kept) > most_bytes):
        kept.remove(_most_redundant(kept, [0, *map(step_of, others)]))
    return set(kept)


def _most_redundant(paths: list[Path], other_steps: list[int]) -> Path:
    """Return the checkpoint without which the gap between its neighbors is smallest; of equals, the earliest."""
    steps = sorted({*map(step_of, paths), *other_steps})

    def gap(path: Path) -> int:
        i = steps.index(step_of(path))
        return steps[min(i + 1, len(steps) - 1)] - steps[max(i - 1, 0)]

    return min(paths, key=gap)
