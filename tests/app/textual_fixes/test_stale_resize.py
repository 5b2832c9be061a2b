"""Two quick resizes of the terminal come to rest at the second size."""

import pytest
from textual.app import App
from textual.events import Callback, Resize
from textual.geometry import Size
from textual.screen import Screen

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.base_screen import BlankScreen

MAX_LAYOUTS = 300


@pytest.mark.parametrize("screen_type", plain_and_fixed(Screen, BlankScreen))
async def test_two_resizes_at_once(screen_type: type[Screen[None]], monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoScreens(App[None]):
        def get_default_screen(self) -> Screen[None]:
            return screen_type(id="_default")

    layouts: list[Size | None] = []
    refresh_layout = Screen._refresh_layout

    def count(self: Screen[object], size: Size | None = None, scroll: bool = False) -> None:
        layouts.append(size)
        assert len(layouts) < MAX_LAYOUTS, "the resizes never end"
        refresh_layout(self, size, scroll)

    monkeypatch.setattr(Screen, "_refresh_layout", count)
    async with TwoScreens().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(screen_type())
        stale, current = Size(74, 57), Size(100, 30)
        pilot.app._size = current
        for screen in pilot.app.screen_stack:
            # Textual merges two resizes that follow each other directly; another message keeps them apart.
            screen.post_message(Resize(stale, stale))
            screen.post_message(Callback(callback=lambda: None))
            screen.post_message(Resize(current, current))
        await pilot.pause()
        assert {screen.size for screen in pilot.app.screen_stack} == {current}
        assert current in layouts and stale not in layouts
