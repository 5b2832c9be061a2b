"""Whether one group of runs is better than another, beyond the noise of their seeds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist, fmean, variance
from typing import Any, Literal

CONFIDENCE = 0.95
"""Of the intervals: of comparisons without a true difference, 1 in 20 is called better or worse."""
Outcome = Literal["better", "worse", "no_difference", "one_seed", "not_finite"]
FRACTION_TERMS = 20
"""Pairs of terms of the continued fraction: exact to 7 digits for a million degrees of freedom, to 12 below 100."""
NEWTON_STEPS = 12


@dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """A group against a baseline. difference: mean of the group minus mean of the baseline.

    interval: of the difference; None with one seed on either side, or where a value is not finite.
    """

    outcome: Outcome
    n_baseline: int
    n_group: int
    mean_baseline: float
    mean_group: float
    interval: Interval | None

    @property
    def difference(self) -> float:
        return self.mean_group - self.mean_baseline

    def to_json(self) -> dict[str, Any]:
        return {"difference": self.difference, "confidence": CONFIDENCE} | asdict(self)


def judge(baseline: Sequence[float], group: Sequence[float], *, lower_is_better: bool = True) -> Verdict:
    """Compare the results of two groups of runs, one value for each seed; neither group is empty."""
    interval = None
    if not all(map(math.isfinite, [*baseline, *group])):
        outcome: Outcome = "not_finite"
    elif min(len(baseline), len(group)) < 2:
        outcome = "one_seed"
    else:
        interval = welch_interval(baseline, group)
        outcome = _outcome(interval, lower_is_better)
    return Verdict(outcome, len(baseline), len(group), fmean(baseline), fmean(group), interval)


def _outcome(interval: Interval, lower_is_better: bool) -> Outcome:
    if interval.low <= 0.0 <= interval.high:
        return "no_difference"
    return "better" if (interval.high < 0.0) == lower_is_better else "worse"


def welch_interval(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of mean(b) - mean(a), without the assumption that both vary equally; two values each.

    Welch, "The generalization of 'Student's' problem when several different population variances are involved",
    Biometrika 34 (1947), with the degrees of freedom of Satterthwaite, Biometrics Bulletin 2 (1946).
    """
    difference = fmean(b) - fmean(a)
    error_a = variance(a) / len(a)
    error_b = variance(b) / len(b)
    error = error_a + error_b
    if error == 0.0:
        return Interval(difference, difference)
    # Shares of the error, so that tiny variances are not squared to zero.
    freedom = 1 / ((error_a / error) ** 2 / (len(a) - 1) + (error_b / error) ** 2 / (len(b) - 1))
    margin = t_quantile(confidence, freedom) * math.sqrt(error)
    return Interval(difference - margin, difference + margin)


def t_quantile(confidence: float, freedom: float) -> float:
    """Return the t for which |T| ≤ t has this probability. freedom: degrees of freedom of T, at least 1."""
    # The probability is concave in t, so Newton's method from the left never overshoots. The normal quantile is left.
    t = NormalDist().inv_cdf((1 + confidence) / 2)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    for _ in range(NEWTON_STEPS):
        density = 2 * math.exp(log_scale - (freedom + 1) / 2 * math.log1p(t * t / freedom))
        t += (confidence - t_probability(t, freedom)) / density
    return t


def t_probability(t: float, freedom: float) -> float:
    """Return the probability of |T| ≤ t for Student's T (Abramowitz and Stegun, 26.7.1 and 26.5.27)."""
    return 1.0 - _regularized_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def _regularized_beta(x: float, a: float, b: float) -> float:
    """Return I_x(a, b), by the continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # Where the fraction converges slowly.
        return 1.0 - _regularized_beta(1.0 - x, b, a)
    log_front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(log_front) / a * _beta_fraction(x, a, b)


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Evaluate the continued fraction, from its last term to its first."""
    value = 1.0
    for m in range(FRACTION_TERMS, -1, -1):
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        value = 1.0 + odd / value
        if m:
            even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
            value = 1.0 + even / value
    return 1.0 / value
