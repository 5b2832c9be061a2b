"""Each pane as it looks, at 80×24 and 200×50. After a wanted change: make snapshots."""

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from tests.app.fake import lab, update
from tui_lab.app.widgets import chart
from tui_lab.core import events as ev


class Screen(SingleFileSnapshotExtension):
    """Plain text, so that a review shows what changed on the screen."""

    file_extension = "txt"
    _write_mode = WriteMode.TEXT


PANES = ["config", "loss", "batch", "generation", "events", "doctor"]


@pytest.fixture
def screen(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    return snapshot.use_extension(Screen)


@pytest.mark.parametrize("size", [(80, 24), (200, 50)], ids=["80x24", "200x50"])
@pytest.mark.parametrize("pane", PANES)
async def test_pane(
    pane: str, size: tuple[int, int], screen: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "12:00:00")
    monkeypatch.setattr(chart, "has_braille", lambda: True)
    async with lab(size=size) as it:
        await it.tell(ev.Changed(step=20, key="optim.lr", old=0.003, new=0.006), update(31), ev.Paused(step=31))
        number = PANES.index(pane) + 1
        await it.press(str(number))
        await it.press(*(["z"] if size == (200, 50) else []))
        await it.pilot.pause()
        assert it.painted() == screen


@pytest.mark.parametrize("size", [(120, 40), (200, 50)], ids=["120x40", "200x50"])
async def test_all_panes_at_once(
    size: tuple[int, int], screen: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda form: "12:00:00")
    monkeypatch.setattr(chart, "has_braille", lambda: True)
    async with lab(size=size) as it:
        await it.tell(ev.Changed(step=20, key="optim.lr", old=0.003, new=0.006), update(31), ev.Paused(step=31))
        await it.press("3")
        assert it.painted() == screen


async def test_without_braille_the_curves_are_drawn_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart, "has_braille", lambda: False)
    async with lab(size=(80, 24)) as it:
        shown = it.painted()
        assert "*" in shown and not any("\u2800" <= sign <= "\u28ff" for sign in shown)
