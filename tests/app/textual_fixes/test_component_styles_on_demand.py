"""Styles of the parts of a widget, looked up on first use."""

import pytest
from textual.app import App, ComposeResult
from textual.widgets import Static

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.stylesheet_parsed_again import KeepParsedRules


class Box(Static):
    COMPONENT_CLASSES = {"box--title", "box--never"}
    DEFAULT_CSS = """
    Box { & > .box--title { color: red; } & > .box--never { color: green; } &.-hot > .box--title { color: blue; } }
    """


class PlainApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Box("text")


class BoxApp(PlainApp, KeepParsedRules):
    pass


async def test_parts_follow_the_classes_of_their_widget() -> None:
    async with BoxApp().run_test() as pilot:
        box = pilot.app.query_one(Box)
        assert box.get_component_styles("box--title").color.hex == "#FF0000"
        box.add_class("-hot")
        await pilot.pause()
        assert box.get_component_styles("box--title").color.hex == "#0000FF"


@pytest.mark.parametrize("app_type", plain_and_fixed(PlainApp, BoxApp))
async def test_only_parts_that_are_used_are_looked_up(app_type: type[App[None]]) -> None:
    async with app_type().run_test() as pilot:
        box = pilot.app.query_one(Box)
        box.get_component_styles("box--title")
        assert list(box._component_styles) == ["box--title"]


async def test_a_widget_is_painted_again_when_the_style_of_a_used_part_changes() -> None:
    async with BoxApp().run_test() as pilot:
        box = pilot.app.query_one(Box)
        box.get_component_styles("box--title")
        painted: list[bool] = []
        box.refresh = lambda **_: painted.append(True)  # type: ignore[method-assign, assignment]
        pilot.app.stylesheet._process_component_classes(box)
        assert not painted
        box.set_class(True, "-hot", update=False)
        pilot.app.stylesheet._process_component_classes(box)
        assert painted


async def test_unknown_part_is_a_key_error() -> None:
    async with BoxApp().run_test() as pilot:
        with pytest.raises(KeyError):
            pilot.app.query_one(Box).get_component_styles("box--unknown")
