"""The label of a tick at the right edge of a chart is whole."""

import pytest
from textual.app import App, ComposeResult
from textual_hires_canvas import Canvas, TextAlign

from tests.app.fake import painted
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.label_past_edge import LabelCanvas


@pytest.mark.parametrize("label", ["450", "4500"])
@pytest.mark.parametrize("canvas_type", plain_and_fixed(Canvas, LabelCanvas))
async def test_centered_label_at_the_right_edge_is_whole(canvas_type: type[Canvas], label: str) -> None:
    class Drawn(App[None]):
        def compose(self) -> ComposeResult:
            yield canvas_type(20, 1)

    async with Drawn().run_test() as pilot:
        canvas = pilot.app.query_one(Canvas)
        canvas.write_text(19, 0, f"[bold]{label}", TextAlign.CENTER)
        canvas.write_text(5, 0, "mid", TextAlign.CENTER)
        await pilot.pause()
        line = painted(pilot.app).splitlines()[0]
        assert line.endswith(label) and line.index("mid") == 4
