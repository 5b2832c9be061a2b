"""Thinning keeps the order, the extremes of each group and the last item."""

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.util.thinning import extremes

VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300)


@given(VALUES, st.integers(1, 50))
def test_extremes_keep_the_order_the_peaks_and_the_end(values: list[float], groups: int) -> None:
    items = list(enumerate(values))
    thinned = extremes(items, groups, value=lambda item: item[1])
    assert thinned == [item for item in items if item in thinned]
    assert len(thinned) <= max(len(items) if len(items) <= 2 * groups else 0, 2 * groups + 1)
    assert thinned[-1] == items[-1]
    assert {min(values), max(values)} <= {value for _, value in thinned}
