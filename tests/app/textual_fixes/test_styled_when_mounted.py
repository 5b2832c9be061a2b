"""Styles of a new screen are applied once, and again when it is shown after another."""

from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.css.stylesheet import Stylesheet
from textual.dom import DOMNode
from textual.events import ScreenResume
from textual.screen import Screen
from textual.widgets import Static

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.styled_when_mounted import StyledWhenMounted


class PlainScreen(Screen[None]):
    def compose(self) -> ComposeResult:
        yield Static("text")


class FixedScreen(StyledWhenMounted[None], PlainScreen):
    pass


class StyledScreen(StyledWhenMounted[None], Screen[None]):
    CSS = "StyledScreen { align: center middle; }"


@pytest.fixture
def styled(monkeypatch: pytest.MonkeyPatch) -> list[DOMNode]:
    """Each node whose styles were applied."""
    nodes: list[DOMNode] = []
    apply = Stylesheet.apply

    def record(sheet: Stylesheet, node: DOMNode, **options: Any) -> None:
        nodes.append(node)
        apply(sheet, node, **options)

    monkeypatch.setattr(Stylesheet, "apply", record)
    return nodes


@pytest.mark.parametrize("screen_type", plain_and_fixed(PlainScreen, FixedScreen))
async def test_styles_of_a_new_screen_are_applied_once(screen_type: type[PlainScreen], styled: list[DOMNode]) -> None:
    async with App[None]().run_test() as pilot:
        screen = screen_type()
        await pilot.app.push_screen(screen)
        await pilot.pause()
        text = screen.query_one(Static)
        assert styled.count(text) == 1


async def test_a_new_screen_has_the_styles_of_its_own_css() -> None:
    async with App[None]().run_test() as pilot:
        screen = StyledScreen()
        await pilot.app.push_screen(screen)
        await pilot.pause()
        assert screen.styles.align == ("center", "middle")


async def test_styles_are_applied_again_when_the_screen_returns(styled: list[DOMNode]) -> None:
    async with App[None]().run_test() as pilot:
        screen = FixedScreen()
        await pilot.app.push_screen(screen)
        await pilot.pause()
        styled.clear()
        screen.post_message(ScreenResume(refresh_styles=True))
        await pilot.pause()
        assert screen.query_one(Static) in styled
