"""Curves in bounded memory keep their peaks; smoothing is unbiased at its start."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.app.session.series import Series, extremes, smooth

values_strategy = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=500)


@given(values_strategy, st.integers(4, 64))
def test_series_is_bounded_and_keeps_its_last_point(values: list[float], limit: int) -> None:
    series = Series(limit)
    for step, value in enumerate(values):
        series.add(step, value)
    steps = [step for step, _ in series.points]
    assert len(steps) <= limit + 1 and series.last == values[-1]
    assert steps == sorted(set(steps))


@given(values_strategy, st.integers(1, 50))
def test_extremes_keep_the_lowest_the_highest_and_the_last_value(values: list[float], groups: int) -> None:
    kept = [value for _, value in extremes([(float(step), value) for step, value in enumerate(values)], groups)]
    assert len(kept) <= 2 * groups + 1 and kept[-1] == values[-1]
    assert (min(kept), max(kept)) == (min(values), max(values))


def test_series_ignores_values_that_are_missing_or_not_finite() -> None:
    series = Series()
    for value in (1.0, math.nan, math.inf, None):
        series.add(1, value)
    assert series.points == [(1, 1.0)]


def test_smoothing_starts_at_the_first_value_and_keeps_a_constant() -> None:
    assert [y for _, y in smooth([(0, 3.0), (1, 3.0)], 0.9)] == pytest.approx([3.0, 3.0])
    assert smooth([(0, 0.0), (1, 1.0)], 0.5)[-1][1] == pytest.approx(2 / 3)
