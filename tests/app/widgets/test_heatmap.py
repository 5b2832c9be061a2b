"""Numbers from 0 to 1 as colors or signs, and the maps drawn of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.app.contrast import contrast, luminance
from tests.app.fake import AppWithoutHome
from tui_lab.app.themes import THEMES
from tui_lab.app.widgets import heatmap
from tui_lab.app.widgets.attention_grid import grid_of, part_around, window_of
from tui_lab.app.widgets.heatmap import LETTERS, SHADES, UNSEEN, Lines, Ramp, fitting, pooled, ramp_of

COLORS = Ramp(tuple(f"#{i:02x}{i:02x}{i:02x}" for i in range(0, 256, 8)), "#000000")
SIGNS = Ramp((), "")


async def test_ramp_is_monotonic_and_its_texts_are_readable_in_every_theme() -> None:
    ramps = []
    async with AppWithoutHome().run_test() as pilot:
        for theme in (theme.name for theme in THEMES):
            pilot.app.theme = theme
            ramps.append(ramp_of(pilot.app.current_theme))
    for ramp in ramps:
        lights = [luminance(color) for color in ramp.colors]
        assert len(lights) == heatmap.STEPS
        assert set(np.sign(np.diff(lights)).tolist()) in ({1.0}, {-1.0})
        assert contrast(ramp.colors[0], ramp.colors[-1]) >= 7.0
        assert all(contrast(ramp.color(level), ramp.text(level)) >= 4.5 for level in range(heatmap.STEPS))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_pooled_keeps_the_maximum_and_fits(n: int, rows: int, columns: int, seed: int) -> None:
    weights = np.random.default_rng(seed).random((n, n)).astype(np.float32)
    small = pooled(weights, rows, columns)
    assert small.shape[0] <= rows and small.shape[1] <= columns and small.max() == weights.max()
    assert pooled(weights, n, n).tolist() == weights.tolist()


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 60), st.sampled_from([COLORS, SIGNS]))
def test_picture_fits_its_space(n: int, columns: int, lines: int, ramp: Ramp) -> None:
    points, scale = fitting(n, ramp, columns, lines)
    levels = np.full((points, points), UNSEEN)
    drawn = heatmap.picture(levels, ramp, scale)
    assert len(drawn) <= lines and all(sum(len(s.text) for s in line) <= columns for line in drawn)
    assert points == n or scale == 1


@given(st.integers(1, 100), st.integers(1, 100), st.data())
def test_part_around_contains_the_selected_item(n: int, most: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, n - 1))
    part = part_around(chosen, n, most)
    assert part.shown <= max(1, most) and 0 <= part.first <= chosen < part.first + part.shown <= n
    grid = grid_of(n, n, (chosen, chosen), 80, 20)
    assert grid.rows.first <= chosen < grid.rows.first + grid.rows.shown
    window = window_of(n, (chosen, chosen), 80, 20)
    assert window.columns.first <= chosen < window.columns.first + window.columns.shown


def test_levels_span_the_whole_ramp() -> None:
    for ramp in (COLORS, SIGNS, Ramp((), "", LETTERS)):
        values = np.array([0.0, 0.3, 1.0], dtype=np.float32)
        low, middle, high = ramp.levels(values, np.array([True, True, True])).tolist()
        assert low == 0 and low < middle < high == ramp.steps - 1
        assert ramp.levels(values, np.array([False] * 3)).tolist() == [UNSEEN] * 3
    assert len(SHADES) == len(LETTERS)


def test_lines_are_repainted_only_when_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines("x")
    painted: list[int] = []
    monkeypatch.setattr(lines, "refresh", lambda: painted.append(1))
    drawn = heatmap.picture(np.array([[0, 1], [1, 0]]), COLORS)
    lines.put(drawn)
    lines.put(heatmap.picture(np.array([[0, 1], [1, 0]]), COLORS))
    assert painted == [1]
