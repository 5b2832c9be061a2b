"""A plot without room has one coordinate for every pixel."""

import pytest
from textual.app import App, ComposeResult
from textual_plot import PlotWidget

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.plot_without_room import PlotWithoutRoom


@pytest.mark.parametrize("plot_type", plain_and_fixed(PlotWidget, PlotWithoutRoom, raises=ZeroDivisionError))
async def test_coordinate_in_a_plot_without_room(plot_type: type[PlotWidget]) -> None:
    class Plotted(App[None]):
        CSS = "PlotWidget { height: 1; width: 1; min-height: 1; min-width: 1; }"

        def compose(self) -> ComposeResult:
            yield plot_type()

    async with Plotted().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(PlotWidget)
        assert plot.get_coordinate_from_pixel(0, 0) == plot.get_coordinate_from_pixel(5, 5)
