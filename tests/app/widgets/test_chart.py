"""The ticks of a chart's vertical axis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.app.widgets.chart import RowFormatter


@given(
    st.floats(-1e6, 1e6, allow_nan=False),
    st.floats(1e-3, 1e6),
    st.integers(4, 60),
)
def test_ticks_are_evenly_spaced_and_two_rows_apart(low: float, span: float, rows: int) -> None:
    formatter = RowFormatter()
    formatter.rows = rows
    ticks = formatter.get_ticks(low, low + span)
    slack = span * 1e-6
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)
    assert len(ticks) <= max(2, rows // 2)
    gaps = [after - before for before, after in zip(ticks, ticks[1:], strict=False)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3) for gap in gaps)


@pytest.mark.parametrize(
    ("low", "high", "rows", "labels"),
    [
        (0.1, 4.04, 9, ["2", "4"]),
        (0.1, 4.04, 16, ["1", "2", "3", "4"]),
        (2.2975, 2.3012, 12, ["2.298", "2.299", "2.300", "2.301"]),
    ],
)
def test_labels_of_ticks(low: float, high: float, rows: int, labels: list[str]) -> None:
    formatter = RowFormatter()
    formatter.rows = rows
    assert formatter.get_labels_for_ticks(formatter.get_ticks(low, high)) == labels


def test_axis_of_one_value_has_one_tick() -> None:
    assert RowFormatter().get_ticks(10.824918, 10.824918) == [10.824918]
