"""The footer follows what applies while the terminal has no focus."""

import pytest
from textual import events
from textual.widgets import Footer

from tests.app.fake import lab
from tests.app.textual_fixes.footers import AppWithFooter, footer_keys, names
from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.core import events as ev


@pytest.mark.parametrize("footer_type", plain_and_fixed(Footer, KeyLine))
async def test_footer_follows_without_focus(footer_type: type[Footer]) -> None:
    app = AppWithFooter(footer_type)
    async with app.run_test() as pilot:
        assert names(await footer_keys(pilot)) == {"Go"}
        app.post_message(events.AppBlur())
        await pilot.pause()
        app.allowed = False
        app.screen.refresh_bindings()
        assert names(await footer_keys(pilot)) == set()


async def test_footer_of_the_lab_follows_the_run_without_focus() -> None:
    async with lab() as it:
        it.pilot.app.post_message(events.AppBlur())
        await it.pilot.pause()
        assert "Pause" in names(await footer_keys(it.pilot))
        await it.tell(ev.Stopped(step=30, reason="done"))
        assert "Pause" not in names(await footer_keys(it.pilot))
