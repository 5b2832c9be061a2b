"""A learning-rate range test as chart and text, for the command line and the app."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tui_lab.core.training.lr_suggestion import RULES, is_noisy, lowest, smooth, suggestions
from tui_lab.runs.numbers import short_number, span, without_zeros
from tui_lab.text.plot import Curve, Dot, Drawing

RAW, SMOOTHED, EARLIER, CHOSEN = "bright_black", "cyan", "blue", "green"
"""Styles: of the losses of batches, their mean, the tests with other seeds, and the suggestion."""
ROOM_ABOVE = 0.4
"""Of the fall of the loss, the height that is shown above the loss at the start."""
FEW = 5
LIMITS = (
    "This is a short test: it shows which rates the model survives now, and says nothing about the end of training, "
    "where a schedule that falls to a small rate matters more."
)
WARMUP = (
    "The test itself rises slowly, which is a warm-up for {optimizer}: use a warm-up, or start lower, if the first "
    "steps of the run jump."
)
FOR_THE_START = "for the weights at the start; later in training it may be too high"
SAME_CURVES = "all seeds gave the same curve: the script sets its own seed"
NOISE = (
    "The losses of single batches scatter by more than half of what the loss falls, so a suggestion may be "
    "noise: repeat the test with more --rates, a larger batch, or --seeds 3 unless the script sets its own seed."
)
NO_FALL = "no suggestion: the loss did not fall by more than noise at any of these rates"


@dataclass
class RangeCurve:
    """The losses of one test so far, from `low` to `high`.

    seed: of its batches and, unless they come from a checkpoint, its weights.
    """

    seed: int
    low: float
    high: float
    rates: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    diverged: str = ""

    def add(self, rate: float, loss: float) -> None:
        self.rates.append(rate)
        self.losses.append(loss)

    @property
    def suggestions(self) -> dict[str, float]:
        return suggestions(self.rates, self.losses)

    @property
    def smoothed(self) -> list[float]:
        return [float(loss) for loss in smooth(self.rates, self.losses)]


@dataclass(frozen=True)
class Suggested:
    """The suggestions of one rule over the tests: their median, the lowest and the highest."""

    rule: str
    lr: float
    low: float
    high: float


def suggested(curves: Sequence[RangeCurve]) -> list[Suggested]:
    """Return the suggestion of each rule, the recommended one first; empty if no test gives one."""
    by_seed = [by_rule for curve in curves if (by_rule := curve.suggestions)]
    if not by_seed:
        return []
    return [_suggested(rule, [by_rule[rule] for by_rule in by_seed]) for rule in RULES]


def _suggested(rule: str, rates: Sequence[float]) -> Suggested:
    return Suggested(rule, rounded(float(np.median(rates))), rounded(min(rates)), rounded(max(rates)))


def rounded(rate: float) -> float:
    """Return a rate with two digits: the test does not know more."""
    return float(f"{rate:.1e}")


def rate_number(rate: float) -> str:
    """Return a rate with at most two digits: 0.0012, 1.2e-5."""
    text = f"{rate:.2g}"
    return without_zeros(text)


def drawing_of(curves: Sequence[RangeCurve], chosen: float | None = None) -> Drawing:
    """Return the chart of the tests; the last one is the current one. chosen: the rate to mark."""
    current = curves[-1]
    ceiling = _ceiling(curves)
    whole_range = Curve("range", [(current.low, math.nan), (current.high, math.nan)], RAW, background=True)
    drawn = [whole_range, *(_curve(curve, EARLIER, ceiling) for curve in curves[:-1])]
    drawn.append(Curve("losses", _cut(current.rates, current.losses, ceiling), RAW, background=True))
    drawn.append(_curve(current, SMOOTHED, ceiling))
    marks = [] if chosen is None else [(chosen, CHOSEN)]
    dots = []
    if chosen is not None and current.rates:
        loss = float(np.interp(math.log(chosen), np.log(current.rates), current.smoothed))
        dots = [Dot(chosen, min(loss, ceiling), f"bold {CHOSEN}")]
    return Drawing(drawn, marks=marks, dots=dots, x_unit="learning rate", y_unit="loss", log_x=True)


def _curve(curve: RangeCurve, style: str, ceiling: float) -> Curve:
    return Curve("smoothed", _cut(curve.rates, curve.smoothed, ceiling), style)


def _cut(rates: Sequence[float], losses: Sequence[float], ceiling: float) -> list[tuple[float, float]]:
    return [(rate, min(loss, ceiling)) for rate, loss in zip(rates, losses, strict=True)]


def _ceiling(curves: Sequence[RangeCurve]) -> float:
    """Return the highest loss to draw: that of a divergence would make everything else a flat line."""
    starts = [float(np.mean(curve.losses[:FEW])) for curve in curves if curve.losses]
    lows = [min(curve.losses) for curve in curves if curve.losses]
    return max(starts) + ROOM_ABOVE * (max(starts) - min(lows)) if starts else math.inf


def waiting_line(seconds: float) -> str:
    """Return what is said before the first point. A script may import, download and tokenize for a minute before."""
    return f"waiting for the first updates: {span(seconds)}"


def progress_line(curve: RangeCurve, n_rates: int) -> str:
    """Return what is measured now."""
    done = len(curve.rates)
    if not done:
        return f"update 0 of {n_rates}"
    rate = rate_number(curve.rates[-1])
    return f"update {done} of {n_rates}  learning rate {rate}  loss {short_number(curve.smoothed[-1])}"


def result_rows(
    curves: Sequence[RangeCurve], suggestions: Sequence[Suggested], *, with_sources: bool = True
) -> list[tuple[str, str, str, str]]:
    """Return rule, rate, spread over several tests, and what the rule is, for each suggestion."""
    rows = []
    for one in suggestions:
        spread = f"{rate_number(one.low)} to {rate_number(one.high)}" if len(curves) > 1 else ""
        source = f" ({RULES[one.rule].source})" if with_sources else ""
        rows.append((one.rule, rate_number(one.lr), spread, f"{RULES[one.rule].about}{source}"))
    return rows


def result_lines(curves: Sequence[RangeCurve], suggestions: Sequence[Suggested], width: int) -> list[str]:
    """Return a line for each suggestion, of at most `width` columns if they are enough without the sources."""
    lines = _aligned(result_rows(curves, suggestions))
    if max(map(len, lines), default=0) > width:
        lines = _aligned(result_rows(curves, suggestions, with_sources=False))
    return lines


def _aligned(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]


def loss_line(curve: RangeCurve) -> str:
    """Return what the loss did in one test."""
    if not curve.rates:
        return curve.diverged
    rate, loss = lowest(curve.rates, curve.losses)
    end = f"; ended at {rate_number(curve.rates[-1])}: {curve.diverged}" if curve.diverged else ""
    return f"loss {short_number(curve.smoothed[0])}, lowest {short_number(loss)} at {rate_number(rate)}{end}"


def limits(optimizer: str, curves: Sequence[RangeCurve]) -> str:
    """Return what the suggestion does not know."""
    uses_moments = optimizer.lower() in ("adam", "adamw", "muon")
    text = f"{LIMITS} {WARMUP.format(optimizer=optimizer)}" if uses_moments else LIMITS
    return f"{NOISE} {text}" if are_noisy(curves) else text


def are_noisy(curves: Sequence[RangeCurve]) -> bool:
    """Return whether the suggestion of any test may be of the noise of its losses."""
    return any(is_noisy(curve.rates, curve.losses) for curve in curves if curve.rates)


def are_equal(curves: Sequence[RangeCurve]) -> bool:
    """Return whether several tests gave the same losses."""
    return len(curves) > 1 and all(curve.losses == curves[0].losses for curve in curves)


def run_command(source: str, overrides: Sequence[str], rate: float) -> str:
    """Return the command that trains a preset or config with a learning rate."""
    sets = [part for one in [*overrides, f"optim.lr={rate_number(rate)}"] for part in ("--set", one)]
    return shlex.join(["tui-lab", "run", source, *sets])
