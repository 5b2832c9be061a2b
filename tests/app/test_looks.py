"""The lab at every terminal size, in every theme, without color, and with the mouse."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from tests.app.contrast import contrast
from tests.app.fake import lab, update
from tui_lab.app.panes.cells import NAME_WIDTH, Cells
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.prompt_form import PromptForm
from tui_lab.app.screens.attention import AttentionScreen
from tui_lab.app.screens.dialogs import Ask, AskLine
from tui_lab.app.screens.explain import Explain
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.home import Home
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.screens.pick_runs import PickRuns
from tui_lab.app.screens.randomness import RandomnessScreen
from tui_lab.app.screens.runs.screen import RunsScreen
from tui_lab.app.themes import THEMES
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev

SCREENS: tuple[type[Screen[Any]], ...] = (
    Ask,
    AskLine,
    AttentionScreen,
    Home,
    Explain,
    Help,
    LabScreen,
    PickRuns,
    RandomnessScreen,
    RunsScreen,
)


def colors(svg: str) -> set[str]:
    """Return the colors of a screenshot."""
    styles = re.search(r"<style>(.*?)</style>", svg, re.DOTALL)
    assert styles is not None
    rectangles = re.findall(r'<rect fill="(#[0-9a-f]{6})"', svg)
    return set(re.findall(r"#[0-9a-f]{6}", styles[1] + "".join(rectangles)))


async def test_no_color_shows_grays_and_keeps_the_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with lab("reverse", 'faults=["no_mask"]', size=(120, 40)) as it:
        await it.tell(ev.Paused(step=30))
        # The export uses a default color of its own where there is none.
        shown_in = colors(it.pilot.app.export_screenshot()) - {"#c5c8c6"}
        assert shown_in and all(c[1:3] == c[3:5] == c[5:7] for c in shown_in)
        assert "‖ paused" in it.painted() and "1 planted mistake" in it.painted()


async def test_text_is_readable_in_every_theme() -> None:
    """The contrast is at least that of WCAG: 4.5 for text, and 7 in the theme for high contrast."""
    async with lab(size=(120, 40)) as it:
        for step, theme in enumerate((theme.name for theme in THEMES), 31):
            it.pilot.app.theme = theme
            await it.tell(update(step))
            for selector in ("#status", "#order", "#value", "#prompt", "#about"):
                widget = it.screen.query_one(selector)
                background = widget.background_colors[1]
                foreground = widget.colors[3]
                if foreground.a < 1:
                    foreground = background.blend(foreground, foreground.a)
                ratio = contrast(background.hex6.lower(), foreground.hex6.lower())
                assert ratio >= (7.0 if theme == "high-contrast" else 4.5), (theme, selector)


async def test_mouse_selects_panes_and_cells_and_presses_footer_keys() -> None:
    async with lab(size=(200, 50)) as it:
        await it.pilot.press("1")
        cells = it.screen.query_one(Cells)
        await it.pilot.click("#cells", offset=(NAME_WIDTH + 2 * 2, 1))
        await it.tell()
        assert it.pilot.app.focused is cells and cells.selected == 2
        await it.pilot.click("#cells", offset=(NAME_WIDTH + 2, 5))
        await it.tell()
        assert (cells.index, cells.selected) == (1, 1) and "2/64, t = 1" in it.text("#cell")

        footer = it.screen.query_one("Footer")
        [key] = [key for key in footer.query("FooterKey") if getattr(key, "description", "") == "Step"]
        await it.pilot.click(key)
        assert it.source.sent == [cmd.Step(1)]


def _name(screen: Any) -> str:
    return str(screen.__name__)


@pytest.mark.parametrize("screen", SCREENS, ids=_name)
def test_styles_of_a_screen_apply_to_that_screen_only(screen: type[Screen[object]]) -> None:
    """Textual applies a loaded file to every screen, so each rule begins with a screen or a part of the lab."""
    path = Path(inspect.getfile(screen)).with_name(str(screen.CSS_PATH))
    owners = {_name(owner) for owner in (*SCREENS, Pane, *Pane.__subclasses__(), PromptForm)}
    selectors = [one for rule in re.findall(r"([^{}]+){", path.read_text("utf-8")) for one in rule.split(",")]
    assert selectors and {re.split(r"[ .:#]", one.strip())[0] for one in selectors} <= owners


async def test_every_size_shows_the_panes_that_fit() -> None:
    async with lab(size=(200, 50)) as it:
        for size in ((200, 50), (300, 100), (120, 40), (80, 24), (60, 20), (30, 10), (120, 40)):
            await it.pilot.resize_terminal(*size)
            await it.tell()
            shown = [pane.id for pane in it.screen.panes if pane.display and pane.size.height > 0]
            too_small = size[0] < 40
            assert it.screen.query_one("#small").display == too_small
            assert it.screen.query_one("#panes").display != too_small
            if too_small:
                continue
            assert it.screen.query_one("#status").region.width == size[0]
            if size[0] < 100:
                assert shown == ["loss"]
            else:
                assert {"config", "loss", "batch", "generation"} <= set(shown)
                # Nothing is diagnosed yet, so the doctor is its title line.
                assert it.screen.doctor_pane.display
                assert it.screen.doctor_pane.is_line


async def test_every_pane_opens_on_a_small_screen() -> None:
    async with lab(size=(60, 20)) as it:
        for number, pane in enumerate(it.screen.panes, 1):
            await it.pilot.press("escape", str(number))
            assert pane.display and pane.size.height > 0
