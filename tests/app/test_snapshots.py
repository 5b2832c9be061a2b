"""Each pane as plain text. After a wanted change: make snapshots."""

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from tests.app.fake import Lab, lab, update
from tui_lab.app.widgets import keyboard_chart
from tui_lab.app.widgets.scrolled import Log
from tui_lab.core import events as ev


class PlainText(SingleFileSnapshotExtension):
    """Plain text, so that a review shows what changed on the screen."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT


PANES = ("config", "loss", "batch", "generation", "events", "doctor")


@pytest.fixture
def screen(snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch) -> SnapshotAssertion:
    monkeypatch.setattr("time.strftime", lambda form: "12:00:00")
    monkeypatch.setattr(keyboard_chart, "has_braille", lambda: True)
    return snapshot.use_extension(PlainText)


async def pause_after_a_change(it: Lab) -> None:
    await it.tell(ev.Changed(step=20, key="optim.lr", old=0.003, new=0.006), update(31), ev.Paused(step=31))


async def events_wrapped(it: Lab) -> None:
    """Wait until the log is wrapped at its present width, which is done after a refresh of its layout."""
    pane = it.screen.events_pane
    log = pane.query_one(Log)
    while pane.display and not pane.is_line and pane._logged_width != log.scrollable_content_region.width:
        await it.pilot.pause()


async def test_panes_at_80x24(screen: SnapshotAssertion) -> None:
    async with lab(size=(80, 24)) as it:
        await pause_after_a_change(it)
        for number, pane in enumerate(PANES, 1):
            await it.press("escape", str(number))
            await events_wrapped(it)
            assert it.painted() == screen(name=pane)


async def test_all_panes_at_120x40(screen: SnapshotAssertion) -> None:
    async with lab(size=(120, 40)) as it:
        await pause_after_a_change(it)
        await it.press("3")
        assert it.painted() == screen


async def test_panes_at_200x50(screen: SnapshotAssertion) -> None:
    async with lab(size=(200, 50)) as it:
        await pause_after_a_change(it)
        await it.press("3")
        assert it.painted() == screen(name="all")
        await it.pilot.press("z")
        for number, pane in enumerate(PANES, 1):
            await it.press("escape", str(number))
            await events_wrapped(it)
            assert it.painted() == screen(name=pane)


async def test_chart_is_ascii_without_braille(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyboard_chart, "has_braille", lambda: False)
    async with lab(size=(80, 24)) as it:
        shown = it.painted()
        assert "*" in shown and not any("\u2800" <= sign <= "\u28ff" for sign in shown)
