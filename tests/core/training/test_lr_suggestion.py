"""Suggestions of a learning rate: on losses whose minimum and steepest place are known."""

import math

import numpy as np
import pytest

from tui_lab.core.training.lr_suggestion import (
    RULES,
    WINDOW_DECADES,
    is_noisy,
    leaves_the_start,
    lowest,
    smooth,
    suggestions,
)
from tui_lab.core.training.range_points import rates_between

RATES = rates_between(1e-6, 1.0, 121)


def fall(center: float, rise: float, noise: float = 0.0, seed: int = 0) -> list[float]:
    """A loss of 3 that falls to 1 by a sigmoid around 10**center, and rises steeply from 10**rise on."""
    random = np.random.default_rng(seed)
    decades = np.log10(RATES)
    losses = 3 - 2 / (1 + np.exp(-(decades - center) * 4)) + np.exp((decades - rise) * 6)
    return [float(loss) for loss in losses + noise * random.standard_normal(len(losses))]


def test_rates_rise_by_a_constant_ratio_between_both_ends() -> None:
    ratios = np.array(RATES[1:]) / np.array(RATES[:-1])
    assert len(RATES) == 121 and [RATES[0], RATES[-1]] == pytest.approx([1e-6, 1.0])
    assert ratios == pytest.approx(ratios[0])


def test_smoothing_is_a_mean_by_distance_in_decades() -> None:
    losses = fall(-3.0, -1.0, noise=0.3)
    slow = []
    for rate in RATES:
        weights = [math.exp(-0.5 * (math.log10(other / rate) / WINDOW_DECADES) ** 2) for other in RATES]
        slow.append(sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights))
    assert smooth(RATES, losses) == pytest.approx(slow)


@pytest.mark.parametrize("center", [-4.0, -3.0, -2.5])
def test_steepest_is_the_center_of_the_fall(center: float) -> None:
    steepest = suggestions(RATES, fall(center, center + 2))["steepest"]
    assert math.log10(steepest) == pytest.approx(center, abs=0.15)


def test_minimum_is_a_decade_below_the_lowest_loss() -> None:
    losses = fall(-3.0, -1.0)
    rate, _ = lowest(RATES, losses)
    assert suggestions(RATES, losses)["minimum"] == pytest.approx(rate / 10)
    assert math.log10(rate) == pytest.approx(math.log10(RATES[int(np.argmin(losses))]), abs=0.1)


def test_rules_stand_noise_of_a_tenth_of_the_fall() -> None:
    exact = suggestions(RATES, fall(-3.0, -1.0))
    for seed in range(20):
        noisy = suggestions(RATES, fall(-3.0, -1.0, noise=0.2, seed=seed))
        for rule in ("minimum", "steepest"):
            assert math.log10(noisy[rule] / exact[rule]) == pytest.approx(0.0, abs=0.5), (rule, seed)


def test_a_spike_before_the_fall_is_not_the_steepest_fall() -> None:
    """As in Lightning's issue 1767: a single high loss at the beginning was taken for the steepest fall."""
    losses = fall(-3.0, -1.0)
    losses[15] += 1.0
    assert math.log10(suggestions(RATES, losses)["steepest"]) == pytest.approx(-3.0, abs=0.15)


def test_every_rule_stays_between_the_start_and_the_divergence() -> None:
    for center in (-4.0, -3.0):
        for rate in suggestions(RATES, fall(center, center + 2)).values():
            assert 1e-6 <= rate < 10 ** (center + 2)


def test_no_fall_gives_no_suggestion() -> None:
    random = np.random.default_rng(0)
    flat = [3 + 0.05 * float(value) for value in random.standard_normal(len(RATES))]
    assert suggestions(RATES, flat) == {} == suggestions(RATES, [3 + i / 100 for i in range(len(RATES))])
    assert suggestions(RATES[:5], [3.0, 2.9, 2.0, 1.5, 1.0]) == {}


def test_the_rules_are_in_the_order_in_which_they_are_recommended() -> None:
    assert list(suggestions(RATES, fall(-3.0, -1.0))) == list(RULES)


def test_divergence_is_a_loss_far_above_the_start() -> None:
    assert not leaves_the_start([3.0] * 10 + [3.5] * 5)
    assert leaves_the_start([3.0] * 15 + [5.0] * 5)
    assert leaves_the_start([3.0] * 10 + [1.0, math.nan])
    assert not leaves_the_start([3.0, 9.0])


def test_noise_before_the_fall_is_neither_a_divergence_nor_the_steepest_fall() -> None:
    """As of a regression with few rows a batch, whose losses have the distribution of a mean of squares."""
    for seed in range(50):
        random = np.random.default_rng(seed)
        scale = np.asarray(fall(-2.0, 0.5))
        losses = [float(loss) for loss in scale * random.chisquare(8, len(RATES)) / 8]
        until_fall = [loss for loss, rate in zip(losses, RATES, strict=True) if rate < 1e-2]
        assert not any(leaves_the_start(until_fall[:n]) for n in range(len(until_fall)))
        steepest = suggestions(RATES, losses).get("steepest", 1e-2)
        assert 2e-4 < steepest < 0.5, seed


def test_losses_that_scatter_as_much_as_they_fall_are_noisy() -> None:
    assert is_noisy(RATES, fall(-3.0, -1.0, noise=2.0))
    assert not is_noisy(RATES, fall(-3.0, -1.0, noise=0.2))
