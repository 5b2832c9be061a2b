"""The rule that says which rows of a step made the loss spike."""

import functools
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
        """Return which losses stand out above these."""
        n_as_high = len(self.losses) - np.searchsorted(self.losses, losses)
        is_high: npt.NDArray[np.bool_] = losses - self.median > LARGEST_SCORE * self.spread
        return is_high & (n_as_high <= RARE * len(self.losses))


def suspects_of(update: UpdateRows, records: Records, spike: Spike | None) -> Suspects:
    """Return the rows of an update that made its loss high.

    A row stands out if its loss is an outlier among the rows of the steps before (where these are not kept, after), and
    if it is further above the typical row than when it was last drawn, unless it stood out then, too: a row that is
    merely hard to predict is not the reason. Of a spike, the rows that stand out are taken from the highest on until
    the loss of the others is within a standard deviation of the expected loss; if they are all rows that stand out and
    the loss of the others is still high, all of them are returned, and `loss_without` shows how much they explain.
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
    parts = [
        (numbers, np.where(np.isfinite(losses), losses, np.nan))
        for numbers, losses in records.losses_between(steps[0], steps[-1])
    ]
    if sum(int(np.isfinite(losses).sum()) for _, losses in parts) < FEWEST_ROWS:
        return None
    medians = np.concatenate([_medians(losses) for _, losses in parts])
    places = np.concatenate([numbers for numbers, _ in parts]).astype(np.float64)
    is_known = np.isfinite(medians)
    slope = _slope(places[is_known], medians[is_known])
    moved = np.concatenate([(losses + slope * (at - numbers)[:, None]).ravel() for numbers, losses in parts])
    losses = np.sort(moved[np.isfinite(moved)])
    median = float(np.median(losses))
    return TypicalRows(losses, median, CONSISTENT * float(np.median(np.abs(losses - median))))


def _medians(losses: Floats) -> Floats:
    """Return the median of each step [n] of the rows [n, B] that are not NaN; NaN where all are."""
    in_order = np.sort(losses, axis=1)  # NaN last.
    n_known = np.isfinite(losses).sum(axis=1)
    rows = np.arange(len(losses))
    middle = (in_order[rows, np.maximum(0, (n_known - 1) // 2)] + in_order[rows, np.maximum(0, n_known // 2)]) / 2
    return np.where(n_known > 0, middle, np.nan)


def _slope(x: Floats, y: Floats) -> float:
    """Return the median slope of the lines through two of the points; 0 for a single point."""
    first, second = _pairs(len(x))
    return float(np.median((y[second] - y[first]) / (x[second] - x[first]))) if len(first) else 0.0


@functools.lru_cache(maxsize=NEIGHBORING_STEPS + 1)
def _pairs(n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first and the second of each two of `n` points."""
    first, second = np.triu_indices(n, 1)
    return first, second


def _has_risen(example: int, loss: float, update: UpdateRows, records: Records, typical: TypicalRows) -> bool:
    """Return whether a row is further above the typical row than when it was last drawn, or stood out then already."""
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
    """Return the mean loss of an update over the targets of the other rows; NaN if there are none."""
    others = np.delete(np.arange(len(update.ids)), places)
    targets = float(update.targets[others].sum(dtype=np.float64))
    return float(update.sums[others].sum(dtype=np.float64)) / targets if targets else float("nan")
