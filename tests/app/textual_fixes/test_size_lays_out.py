"""Typing into a field does not lay out the screen."""

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Size
from textual.screen import Screen
from textual.widgets import Input

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.widgets.input import Field


@pytest.mark.parametrize("input_type", plain_and_fixed(Input, Field))
async def test_typing_lays_out_nothing(input_type: type[Input], monkeypatch: pytest.MonkeyPatch) -> None:
    class Typed(App[None]):
        def compose(self) -> ComposeResult:
            yield input_type()

    layouts = 0
    refresh_layout = Screen._refresh_layout

    def count(self: Screen[object], size: Size | None = None, scroll: bool = False) -> None:
        nonlocal layouts
        layouts += 1
        refresh_layout(self, size, scroll)

    async with Typed().run_test() as pilot:
        await pilot.pause()
        monkeypatch.setattr(Screen, "_refresh_layout", count)
        await pilot.press("a", "b", "c")
        assert pilot.app.query_one(Input).value == "abc" and layouts == 0
