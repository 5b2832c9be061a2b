"""PaneLayout: where each pane is, in a terminal of which size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.geometry import Size

from tui_lab.app.panes.layout import NAMES, Name, PaneLayout

NUMBERS = range(1, 7)


def layout_of(size: Size, active: int = 2, name: Name = "overview") -> PaneLayout:
    layout = PaneLayout(NUMBERS, active, name)
    layout.size = size
    return layout


def open_panes(layout: PaneLayout) -> set[int]:
    """Return the panes that are more than a title line."""
    return {number for number, region in layout.regions(layout.size).items() if region.height > 1}


@pytest.mark.parametrize(
    ("size", "active", "opened"),
    [
        (Size(120, 40), 2, {1, 2, 3, 4, 5}),
        (Size(120, 40), 6, {1, 2, 3, 4, 6}),
        (Size(200, 50), 2, {1, 2, 3, 4, 5, 6}),
        (Size(100, 45), 2, {2, 3}),
        (Size(100, 45), 6, {2, 6}),
        (Size(69, 40), 3, {3}),
        (Size(120, 29), 3, {3}),
    ],
)
def test_open_panes_by_size(size: Size, active: int, opened: set[int]) -> None:
    assert open_panes(layout_of(size, active)) == opened


def test_pane_without_content_is_a_line_until_it_is_active() -> None:
    layout = layout_of(Size(200, 50))
    layout.with_content = {1, 2, 3, 4, 5}
    assert layout.regions(layout.size)[6].height == 1
    layout.active = 6
    assert open_panes(layout) == {1, 2, 3, 4, 5, 6}


def test_zoomed_pane_is_alone() -> None:
    layout = layout_of(Size(200, 50), active=5)
    layout.zoomed = True
    assert layout.visible == {5}
    layout.next()
    assert len(layout.visible) == 6


@given(
    width=st.integers(1, 300),
    height=st.integers(1, 100),
    active=st.sampled_from(NUMBERS),
    name=st.sampled_from(NAMES),
    with_content=st.sets(st.sampled_from(NUMBERS)),
)
def test_panes_fill_the_area_without_overlap(
    width: int, height: int, active: int, name: Name, with_content: set[int]
) -> None:
    layout = layout_of(Size(width, height), active, name)
    layout.with_content = with_content
    regions = layout.regions(layout.size)
    assert sum(region.area for region in regions.values()) == width * height
    placed = list(regions.values())
    assert not any(a.overlaps(b) for i, a in enumerate(placed) for b in placed[:i])
    # The lab needs five lines for a pane to be of use; smaller terminals show one pane.
    assert regions[active].height >= min(height, 5)


@pytest.mark.parametrize(
    ("size", "classes"),
    [(Size(120, 40), set()), (Size(60, 24), {"-single"}), (Size(39, 12), {"-single", "-small"})],
)
def test_classes_of_the_screen(size: Size, classes: set[str]) -> None:
    assert {name for name, is_set in layout_of(size).classes.items() if is_set} == classes
