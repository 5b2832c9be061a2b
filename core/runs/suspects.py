"""The rule that says which rows of a step made the loss spike."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tui_lab.core.runs.row_log import Records, mean_losses
from tui_lab.core.runs.spikes import Spike
from tui_lab.core.training.update_rows import UpdateRows

NEIGHBORING_STEPS = 50
"""Steps before the spike whose rows are compared with its rows, at most."""
LARGEST_SCORE = 3.5
"""Of the modified z-score; Iglewicz and Hoaglin 1993, "How to detect and handle outliers", call more an outlier."""
CONSISTENT = 1.4826
"""Times the median absolute deviation is the standard deviation of a normal distribution."""
RARE = 0.005
"""The fraction of the neighboring rows that may have as high a loss. Losses of rows have heavy tails, where the z-score
alone calls too many an outlier; and an earlier bad row must not hide the next one."""
FEWEST_ROWS = 8
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Suspects:
    """places: in the batch, the highest loss first. loss_without: the step's loss without them, None without any."""

    places: tuple[int, ...]
    loss_without: float | None


@dataclass(frozen=True)
class TypicalRows:
    """The losses of the rows of neighboring steps, sorted, with their median and spread."""

    losses: Floats
    median: float
    spread: float

    def outliers(self, losses: Floats) -> npt.NDArray[np.bool_]:
        """Which losses stand out above these."""
        n_as_high = len(self.losses) - np.searchsorted(self.losses, losses)
        is_high: npt.NDArray[np.bool_] = losses - self.median > LARGEST_SCORE * self.spread
        return is_high & (n_as_high <= RARE * len(self.losses))


def suspects_of(update: UpdateRows, records: Records, spike: Spike | None) -> Suspects:
    """Return the rows of an update that made its loss high.

    A row stands out if its loss is an outlier among the rows of the steps before (where these are not kept, after), and
    if it is further above the typical row than when it was last drawn, unless it stood out then, too: a row that is
    merely hard to predict is not the reason. Of a spike, the rows that stand out are taken from the highest on until
    the loss of the others is within a standard deviation of the expected loss; if they are all rows that stand out and
    the loss of the others is still high, all of them are returned, and `loss_without` tells how much they explain.
    """
    typical = typical_rows(records, range(update.step - NEIGHBORING_STEPS, update.step), update.step)
    if typical is None:
        after = range(update.step + 1, update.step + 1 + NEIGHBORING_STEPS)
        typical = typical_rows(records, after, update.step)
    if typical is None:
        return Suspects((), None)
    losses = mean_losses(update)
    stands_out = typical.outliers(np.nan_to_num(losses, nan=-np.inf))
    order = sorted(np.flatnonzero(stands_out).tolist(), key=lambda place: -losses[place])
    candidates = [
        place for place in order if _has_risen(int(update.ids[place]), losses[place], update, records, typical)
    ]
    enough = None if spike is None else spike.expected + spike.deviation
    taken: list[int] = []
    loss = update.loss
    for place in candidates:
        if enough is not None and loss <= enough:
            break
        taken.append(place)
        loss = _loss_without(update, taken)
    return Suspects(tuple(taken), loss if taken else None)


def typical_rows(records: Records, steps: range, at: int) -> TypicalRows | None:
    """Return the rows of some steps, as high as they would be at step `at`; None where too few are kept.

    While the loss falls fast, the rows of 50 steps ago would hide an outlier. So they are moved along the line through
    the medians of the steps (Theil 1950 and Sen 1968 for its slope: one bad step must not turn it).
    """
    updates = list(records.between(steps[0], steps[-1]))
    parts = [losses[np.isfinite(losses)] for losses in map(mean_losses, updates)]
    kept = [(update.step, losses) for update, losses in zip(updates, parts, strict=True) if len(losses)]
    if sum(len(losses) for _, losses in kept) < FEWEST_ROWS:
        return None
    places = np.array([step for step, _ in kept], np.float64)
    slope = _slope(places, np.array([np.median(losses) for _, losses in kept]))
    moved = [losses + slope * (at - step) for step, losses in kept]
    losses = np.sort(np.concatenate(moved))
    median = float(np.median(losses))
    return TypicalRows(losses, median, CONSISTENT * float(np.median(np.abs(losses - median))))


def _slope(x: Floats, y: Floats) -> float:
    """Return the median slope of the lines through two of the points; 0 for a single point."""
    first, second = np.triu_indices(len(x), 1)
    return float(np.median((y[second] - y[first]) / (x[second] - x[first]))) if len(first) else 0.0


def _has_risen(example: int, loss: float, update: UpdateRows, records: Records, typical: TypicalRows) -> bool:
    """Whether a row is further above the typical row than when it was last drawn, or stood out then already."""
    draws = records.draws_of(np.array([example]), update.step)
    if not draws:
        return True
    _, step, loss_then = draws[-1]
    half = NEIGHBORING_STEPS // 2
    typical_then = typical_rows(records, range(step - half, step + half + 1), step)
    if typical_then is None:
        return True
    stood_out = bool(typical_then.outliers(np.array([loss_then]))[0])
    return stood_out or loss - typical.median > loss_then - typical_then.median


def _loss_without(update: UpdateRows, places: list[int]) -> float:
    """The mean loss of an update over the targets of the other rows; NaN if there are none."""
    others = np.delete(np.arange(len(update.ids)), places)
    targets = float(update.targets[others].sum(dtype=np.float64))
    return float(update.sums[others].sum(dtype=np.float64)) / targets if targets else float("nan")
