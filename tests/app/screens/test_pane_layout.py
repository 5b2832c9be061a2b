"""PaneLayout: which panes are visible in a terminal of which size."""

import pytest
from textual.geometry import Size

from tui_lab.app.screens.pane_layout import PaneLayout


@pytest.mark.parametrize(
    ("size", "active", "zoomed", "visible"),
    [
        (Size(120, 40), 2, False, {1, 2, 3, 4}),
        (Size(120, 40), 6, False, {1, 2, 3, 4, 6}),
        (Size(200, 50), 2, False, {1, 2, 3, 4, 5, 6}),
        (Size(200, 50), 5, True, {5}),
        (Size(99, 40), 3, False, {3}),
        (Size(120, 29), 3, False, {3}),
    ],
)
def test_visible_panes(size: Size, active: int, zoomed: bool, visible: set[int]) -> None:
    layout = PaneLayout(range(1, 7), active)
    layout.size = size
    layout.zoomed = zoomed
    assert layout.visible == visible


@pytest.mark.parametrize(
    ("size", "active", "classes"),
    [
        (Size(120, 40), 2, set()),
        (Size(120, 40), 5, {"-below"}),
        (Size(200, 50), 5, {"-tall"}),
        (Size(80, 24), 5, {"-single"}),
        (Size(39, 12), 2, {"-single", "-small"}),
    ],
)
def test_classes_of_the_screen(size: Size, active: int, classes: set[str]) -> None:
    layout = PaneLayout(range(1, 7), active)
    layout.size = size
    assert {name for name, is_set in layout.classes.items() if is_set} == classes
