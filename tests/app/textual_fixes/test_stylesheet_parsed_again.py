"""A screen with styles of its own parses those, and not those of the app again."""

import pytest
from textual.app import App
from textual.css.parse import parse
from textual.screen import Screen

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.stylesheet_parsed_again import KeepParsedRules


class Styled(Screen[None]):
    CSS = "Styled { background: $error; }"


@pytest.mark.parametrize("app_type", plain_and_fixed(App, KeepParsedRules))
async def test_screen_with_styles_parses_those_of_the_app_once(
    app_type: type[App[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def count(scope: str, css: str, *arguments: object, **more: object) -> object:
        parsed.append(css)
        return parse(scope, css, *arguments, **more)  # type: ignore[arg-type]

    async with app_type().run_test() as pilot:
        monkeypatch.setattr("textual.css.stylesheet.parse", count)
        await pilot.app.push_screen(Styled())
        await pilot.pause()
        assert App.DEFAULT_CSS not in parsed
        assert pilot.app.screen.styles.background.hex == pilot.app.get_css_variables()["error"]


async def test_rules_follow_the_theme() -> None:
    async with KeepParsedRules().run_test() as pilot:
        await pilot.app.push_screen(Styled())
        backgrounds = []
        for theme in ("nord", "gruvbox", "nord"):
            pilot.app.theme = theme
            await pilot.pause()
            backgrounds.append(pilot.app.screen.styles.background.hex)
            assert backgrounds[-1] == pilot.app.get_css_variables()["error"]
        assert backgrounds[0] == backgrounds[2] != backgrounds[1]
