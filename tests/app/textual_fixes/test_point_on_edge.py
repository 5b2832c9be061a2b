"""The newest and lowest point of a curve is visible."""

import pytest
from textual.app import App, ComposeResult
from textual_plot import PlotWidget

from tests.app.fake import painted
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.point_on_edge import DrawPointsOnEdge


@pytest.mark.parametrize("plot_type", plain_and_fixed(PlotWidget, DrawPointsOnEdge))
async def test_point_on_the_edge_is_drawn(plot_type: type[PlotWidget]) -> None:
    class Plotted(App[None]):
        def compose(self) -> ComposeResult:
            yield plot_type()

    async with Plotted().run_test(size=(80, 24)) as pilot:
        plot = pilot.app.query_one(PlotWidget)
        plot.set_xlimits(0, 1)
        plot.set_ylimits(0, 1)
        for x, y in ((0, 0), (0, 1), (1, 0), (1, 1)):
            plot.scatter([x], [y], marker="@")
        await pilot.pause()
        assert painted(pilot.app).count("@") == 4
