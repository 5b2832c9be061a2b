"""Tests of the app paint the screen when they wait for it, not every frame before: that took a third of their time."""

import pytest
from textual.pilot import Pilot
from textual.screen import Screen


@pytest.fixture(autouse=True)
def paint_when_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect what has to be painted, as a slow terminal does, and paint it at the end of `Pilot.pause`."""
    paint = Screen._compositor_refresh
    pause = Pilot.pause

    def collect(screen: Screen[object]) -> None:
        if screen is screen.app.screen:
            screen._dirty_widgets.clear()  # The compositor keeps their regions.
            screen.app._update_mouse_over(screen)
        else:
            paint(screen)

    async def pause_and_paint(pilot: Pilot[object], delay: float | None = None) -> None:
        await pause(pilot, delay)
        if pilot.app.screen._compositor._dirty_regions:
            paint(pilot.app.screen)

    monkeypatch.setattr(Screen, "_compositor_refresh", collect)
    monkeypatch.setattr(Pilot, "pause", pause_and_paint)
