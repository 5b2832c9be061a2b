"""The footer is built again only if its keys have changed."""

import pytest
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from tests.app.fake import lab
from tests.app.textual_fixes.footers import AppWithFooter, footer_keys, names
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.widgets.footer import KeyLine


@pytest.mark.parametrize("footer_type", plain_and_fixed(Footer, KeyLine))
async def test_footer_stays_while_its_keys_are_the_same(footer_type: type[Footer]) -> None:
    async with AppWithFooter(footer_type).run_test() as pilot:
        before = await footer_keys(pilot)
        await pilot.press("tab")
        assert before and await footer_keys(pilot) == before


async def test_footer_follows_the_focus() -> None:
    async with AppWithFooter(KeyLine).run_test() as pilot:
        assert names(await footer_keys(pilot)) == {"Go"}
        await pilot.press("tab", "tab")
        assert names(await footer_keys(pilot)) == {"Go", "Other"}
        await pilot.press("shift+tab")
        assert names(await footer_keys(pilot)) == {"Go"}


async def test_footer_shows_disabled_keys_and_hides_those_that_do_not_apply() -> None:
    app = AppWithFooter(KeyLine)
    async with app.run_test() as pilot:
        assert [key.has_class("-disabled") for key in await footer_keys(pilot)] == [False]
        app.allowed = None
        app.screen.refresh_bindings()
        assert [key.has_class("-disabled") for key in await footer_keys(pilot)] == [True]
        app.allowed = False
        app.screen.refresh_bindings()
        assert await footer_keys(pilot) == []


async def test_footer_of_the_lab_stays_from_pane_to_pane() -> None:
    async with lab() as it:
        before = list(it.screen.query(FooterKey))
        await it.press("tab")
        assert before and list(it.screen.query(FooterKey)) == before


async def test_removed_footer_is_not_built_again() -> None:
    async with AppWithFooter(KeyLine).run_test() as pilot:
        assert await footer_keys(pilot)
        footer = pilot.app.screen.query_one(KeyLine)
        await footer.remove()
        await footer.recompose()
        assert not pilot.app.screen.query(FooterKey)
