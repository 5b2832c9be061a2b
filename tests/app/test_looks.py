"""What holds whatever the terminal: its size, its colours, and the mouse."""

import inspect
import re
from pathlib import Path

import pytest
from textual.screen import Screen

from tests.app.fake import lab, update
from tui_lab.app.app import THEMES
from tui_lab.app.panes.batch import CELL, NAME, BatchPane
from tui_lab.app.panes.pane import Pane
from tui_lab.app.screens.attention import AttentionScreen
from tui_lab.app.screens.chooser import Chooser
from tui_lab.app.screens.dialogs import Ask, AskLine
from tui_lab.app.screens.explain import Explain
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.screens.runs import RunsScreen
from tui_lab.core import events as ev


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(svg: str) -> set[str]:
    styles = re.search(r"<style>(.*?)</style>", svg, re.DOTALL)
    assert styles is not None
    return set(re.findall(r"#[0-9a-f]{6}", styles[1] + "".join(re.findall(r'<rect fill="(#[0-9a-f]{6})"', svg))))


async def test_no_color_is_respected_and_meaning_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with lab("reverse", 'faults=["no_mask"]', size=(120, 40)) as it:
        await it.tell(ev.Paused(step=30))
        # Grey has equal parts: nothing is told by a hue. The export writes its own default for what has no colour.
        shown_in = colours(it.pilot.app.export_screenshot()) - {"#c5c8c6"}
        assert shown_in and all(c[1:3] == c[3:5] == c[5:7] for c in shown_in)
        shown = it.painted()
        assert "‖ paused" in shown and "planted fault: no_mask" in shown


@pytest.mark.parametrize("theme", THEMES)
async def test_text_can_be_read_in_every_theme(theme: str) -> None:
    """The status line, tabs and values against what is behind them: WCAG's ratio for text, 4.5, and 7 for contrast."""
    wanted = 7.0 if theme == "high-contrast" else 4.5
    async with lab(size=(120, 40)) as it:
        it.pilot.app.theme = theme
        await it.tell(update(31))
        for selector in ("#status", "#order", "#value", "#prompt", "#about"):
            widget = it.screen.query_one(selector)
            background, foreground = widget.background_colors[1], widget.colors[3]
            blended = background.blend(foreground, foreground.a) if foreground.a < 1 else foreground
            light, dark = sorted((luminance(background.hex6.lower()), luminance(blended.hex6.lower())), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= wanted, (selector, background, blended)


async def test_a_click_goes_to_a_pane_and_to_a_cell() -> None:
    async with lab(size=(200, 50)) as it:
        await it.press("1")
        pane = it.screen.query_one(BatchPane)
        across = pane.columns()
        await it.pilot.click("#cells", offset=(NAME + 2 * CELL + 1, 1))
        await it.tell()
        assert it.pilot.app.focused is not None and it.pilot.app.focused.id == "cells" and pane.cell == 2
        await it.pilot.click("#cells", offset=(NAME + 1, 4))
        await it.tell()
        assert pane.cell == min(across, 10)
        assert f"t = {pane.cell}" in it.text("#cell")


@pytest.mark.parametrize(
    "screen", [Ask, AskLine, AttentionScreen, Chooser, Explain, Help, LabScreen, RunsScreen], ids=lambda it: it.__name__
)
def test_the_styles_of_a_screen_reach_no_other_screen(screen: type[Screen[object]]) -> None:
    """Textual applies a loaded file to every screen, so each rule has to begin with a screen or a pane of the lab."""
    path = Path(inspect.getfile(screen)).with_name(str(screen.CSS_PATH))
    owners = {"Ask", "AskLine", "AttentionScreen", "Chooser", "Explain", "Help", "LabScreen", "RunsScreen"}
    owners |= {Pane.__name__, *(pane.__name__ for pane in Pane.__subclasses__())}
    selectors = [one for rule in re.findall(r"([^{}]+){", path.read_text("utf-8")) for one in rule.split(",")]
    assert selectors and {re.split(r"[ .:#]", one.strip())[0] for one in selectors} <= owners


async def test_a_click_on_the_footer_is_its_key() -> None:
    async with lab(size=(120, 40)) as it:
        footer = it.screen.query_one("Footer")
        line = footer.render_line(0).text
        keys = [k for k in footer.query("FooterKey") if getattr(k, "description", "") == "Step"]
        assert keys, line
        await it.pilot.click(keys[0])
        await it.tell()
        assert [type(command).__name__ for command in it.source.sent] == ["Step"]


@pytest.mark.parametrize("size", [(30, 10), (60, 20), (80, 24), (120, 40), (200, 50), (300, 100)])
async def test_every_size_shows_what_fits_it(size: tuple[int, int]) -> None:
    async with lab(size=size) as it:
        shown = [pane.id for pane in it.screen.panes if pane.display and pane.size.height > 0]
        if size[0] < 40:
            assert "needs 40×12 or more" in it.painted()
        elif size[0] < 100:
            assert shown == ["loss"]
        else:
            assert {"config", "loss", "batch", "generation"} <= set(shown)
            assert ("doctor" in shown) == ("events" in shown) == (size[1] >= 45)
        await it.pilot.resize_terminal(120, 40)
        await it.tell()
        assert len([pane for pane in it.screen.panes if pane.display]) >= 4
