import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.app.session.series import Series, extremes, smooth
from tui_lab.app.widgets.histogram_bar import strip

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=500)


@given(values, st.integers(4, 64))
def test_a_series_is_bounded_and_keeps_its_peaks_and_its_end(found: list[float], limit: int) -> None:
    series = Series(limit)
    for step, value in enumerate(found):
        series.add(step, value)
    kept = [value for _, value in series.points]
    assert len(kept) <= limit + 1 and series.last == found[-1]
    assert [x for x, _ in series.points] == sorted({x for x, _ in series.points})


@given(values, st.integers(1, 50))
def test_thinning_keeps_the_extremes(found: list[float], groups: int) -> None:
    points = list(enumerate(found))
    kept = extremes([(float(x), y) for x, y in points], groups)
    assert len(kept) <= 2 * groups + 1 and kept[-1][1] == found[-1]
    assert (min(y for _, y in kept), max(y for _, y in kept)) == (min(found), max(found))


def test_what_is_not_finite_is_no_point() -> None:
    series = Series()
    for value in (1.0, math.nan, math.inf, None):
        series.add(1, value)
    assert series.points == [(1, 1.0)]


def test_smoothing_starts_at_the_first_value_and_leaves_a_constant_alone() -> None:
    assert [y for _, y in smooth([(0, 3.0), (1, 3.0)], 0.9)] == pytest.approx([3.0, 3.0])
    assert smooth([(0, 0.0), (1, 1.0)], 0.5)[-1][1] == pytest.approx(2 / 3)


@given(st.lists(st.integers(0, 999), max_size=50), st.integers(1, 80))
def test_a_strip_marks_where_the_hits_are(hits: list[int], width: int) -> None:
    shown = strip(hits, 1000, width)
    assert len(shown) == width
    assert {i for i, sign in enumerate(shown) if sign != "·"} == {h * width // 1000 for h in hits}
