"""Verdicts about groups of runs: the interval, and error rates on simulated pairs of groups."""

import math

import numpy as np
import pytest

from tests.core.runs.simulated import SEED_NOISE, evaluations
from tui_lab.core.runs.compare import at_equal
from tui_lab.core.runs.verdict import judge, t_quantile, welch_interval

N_PAIRS = 100


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.70620474), (2, 4.30265273), (4, 2.77644511), (30, 2.04227246), (1e6, 1.95996636)]
)
def test_t_quantile_is_that_of_the_tables(freedom: float, expected: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(expected, abs=1e-7)


def test_welch_interval_is_that_of_an_integrated_density() -> None:
    """The density of Student's t with 2.56 degrees of freedom was integrated numerically."""
    interval = welch_interval([1.0, 1.1, 1.2], [2.0, 2.5, 2.1])
    assert (interval.low, interval.high) == pytest.approx((0.52593436, 1.67406564), abs=1e-6)


@pytest.mark.parametrize(
    ("baseline", "group", "outcome"),
    [
        ([1.0, 1.1, 1.05], [0.5, 0.6, 0.55], "better"),
        ([0.5, 0.6, 0.55], [1.0, 1.1, 1.05], "worse"),
        ([1.0, 1.1, 1.05], [1.0, 1.12, 1.04], "no_difference"),
        ([1.0], [0.5, 0.6, 0.55], "one_seed"),
        ([1.0, 1.1], [0.1], "one_seed"),
        ([1.0, 1.1], [0.1, math.inf], "not_finite"),
        ([1.0, 1.0], [1.0, 1.0], "no_difference"),
        ([1.0, 1.0], [0.5, 0.5], "better"),
    ],
)
def test_outcomes(baseline: list[float], group: list[float], outcome: str) -> None:
    verdict = judge(baseline, group)
    assert verdict.outcome == outcome
    assert (verdict.interval is None) == (outcome in ("one_seed", "not_finite"))


def test_higher_is_better_where_the_metric_says_so() -> None:
    assert judge([0.1, 0.2], [0.9, 0.91], lower_is_better=False).outcome == "better"


@pytest.mark.parametrize(
    ("n_seeds", "difference", "outcome", "least", "most"),
    [
        (5, 0.0, "no_difference", 0.90, 1.0),
        (3, 0.0, "no_difference", 0.90, 1.0),
        (5, -3 * SEED_NOISE, "better", 0.94, 1.0),
        (5, 3 * SEED_NOISE, "worse", 0.94, 1.0),
        (3, -3 * SEED_NOISE, "better", 0.55, 0.85),
        (2, -3 * SEED_NOISE, "better", 0.05, 0.35),
        (1, -3 * SEED_NOISE, "one_seed", 1.0, 1.0),
        (1, 0.0, "one_seed", 1.0, 1.0),
    ],
)
def test_rates_on_simulated_pairs(n_seeds: int, difference: float, outcome: str, least: float, most: float) -> None:
    """Few are called different without a difference; a difference of 3 standard deviations needs 5 seeds."""
    rng = np.random.default_rng(0)
    baselines = evaluations(rng, N_PAIRS, n_seeds)
    groups = evaluations(rng, N_PAIRS, n_seeds, difference)
    outcomes: list[str] = []
    for baseline, group in zip(baselines, groups, strict=True):
        comparison = at_equal("steps", baseline, group, "val_loss")
        assert comparison is not None and comparison.amount == 1000
        outcomes.append(comparison.verdict.outcome)
    assert least <= outcomes.count(outcome) / N_PAIRS <= most
    opposite = {"better": "worse", "worse": "better"}.get(outcome)
    assert opposite not in outcomes
