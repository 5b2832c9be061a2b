"""The histogram bar is high where the hits are."""

from hypothesis import given
from hypothesis import strategies as st

from tui_lab.app.widgets.histogram_bar import histogram_bar


@given(st.lists(st.integers(0, 999), max_size=50), st.integers(1, 80))
def test_histogram_bar_marks_the_hits(hits: list[int], width: int) -> None:
    bar = histogram_bar(hits, 1000, width)
    assert len(bar) == width
    assert {i for i, character in enumerate(bar) if character != "·"} == {hit * width // 1000 for hit in hits}


def test_histogram_bar_is_highest_where_most_hits_are() -> None:
    assert histogram_bar([0, 0, 0, 0, 9], 10, 2) == "█▂"
