"""A rise of losses is distinguished from their noise."""

import random

import pytest

from tui_lab.core.doctor.rising_loss import has_risen, noise


@pytest.mark.parametrize(
    ("losses", "is_rise"),
    [
        ([2.0, 2.1, 2.2, 2.3], True),
        ([4.0, 3.0, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5], True),
        ([4.0, 3.0, 2.0, 2.2, 2.02, 2.15, 2.01], False),
        ([2.0, 2.0, 2.0, 2.0], False),
        ([3.0, 2.0, 1.0], False),
        ([2.0, 2.1, 2.2, float("nan")], False),
        ([], False),
    ],
)
def test_rise(losses: list[float], is_rise: bool) -> None:
    assert has_risen(losses) == is_rise


def test_noise_is_measured_beside_a_trend() -> None:
    draw = random.Random(0)
    assert noise([0.1 * i + draw.gauss(0.0, 0.05) for i in range(40)]) == pytest.approx(0.05, rel=0.3)


def test_noise_alone_seldom_rises_and_a_small_trend_does() -> None:
    draw = random.Random(0)
    flat = [[draw.gauss(2.0, 0.05) for _ in range(100)] for _ in range(20)]
    assert sum(any(has_risen(series[:n]) for n in range(4, 100)) for series in flat) <= 1
    rising = [[draw.gauss(2.0 + 0.02 * i, 0.05) for i in range(40)] for _ in range(20)]
    assert all(has_risen(series) for series in rising)
