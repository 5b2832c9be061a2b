"""Every segment of a canvas has a style, which NO_COLOR needs."""

import pytest
from textual.app import App, ComposeResult
from textual_hires_canvas import Canvas

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.blank_line_style import StyledCanvas


@pytest.mark.parametrize("canvas_type", plain_and_fixed(Canvas, StyledCanvas))
async def test_line_without_columns_has_a_style(canvas_type: type[Canvas]) -> None:
    class Drawn(App[None]):
        def compose(self) -> ComposeResult:
            yield canvas_type(1, 1)

    async with Drawn().run_test() as pilot:
        canvas = pilot.app.query_one(Canvas)
        canvas.reset(size=None)
        canvas._canvas_size = canvas._canvas_size.__class__(0, 1)
        assert all(segment.style is not None for segment in canvas.render_line(0))
