"""The attention screen over a real model, and the drawing of its maps."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from tests.app.fake import Lab, lab, update
from tui_lab.app.screens.attention import AttentionScreen
from tui_lab.app.screens.attention_view import AttentionView
from tui_lab.app.session.attention_source import Rows
from tui_lab.app.widgets.heatmap import HALF, Ramp
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.example import attention_maps
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code.external_model import Model

COLORS = Ramp(tuple(f"#{i:02x}{i:02x}{i:02x}" for i in range(0, 256, 8)), "#000000")
SIGNS = Ramp((), "")


class PlainText(SingleFileSnapshotExtension):
    file_extension = "txt"
    _write_mode = WriteMode.TEXT


@dataclass
class Attending:
    """The attention screen over a lab whose model answers when the test asks for it."""

    it: Lab
    screen: AttentionScreen
    batch: Rows
    model: Model

    @property
    def view(self) -> AttentionView:
        return self.screen.view

    async def answer(self) -> None:
        """Run the inspections that wait; then let time pass."""
        inspections, self.it.source.looks = self.it.source.looks, []
        for inspection in inspections:
            inspection.look(self.model)
        self.it.now[0] += 10.0
        self.screen.tick()
        await self.it.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.it.pilot.press(*keys)
        await self.answer()

    async def click(self, x: int, y: int) -> None:
        await self.it.pilot.click("#maps", offset=(x, y))
        await self.answer()

    def text(self, selector: str) -> str:
        widget = self.screen.query_one(selector)
        return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))

    def maps(self) -> AttentionMaps:
        """Return the maps of the example, computed here."""
        maps = attention_maps(self.model, self.batch.x[self.screen.row])
        assert maps is not None
        return maps


@asynccontextmanager
async def attending(
    preset: str = "reverse", *overrides: str, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[Attending]:
    async with lab(preset, *overrides, size=size) as it:
        await it.tell(ev.Paused(step=30))
        assert it.screen.state.started is not None
        model = build_model(it.config, it.screen.state.started.n_vocab)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "W_Q" in name or "W_K" in name:
                    parameter.mul_(8.0)  # At initialization, every head attends evenly.
        it.source.looks.clear()
        shown = it.screen.batch_pane.current_example(it.screen.state)
        assert shown is not None
        await it.pilot.press("A")
        screen = it.pilot.app.screen
        assert isinstance(screen, AttentionScreen)
        attended = Attending(it, screen, shown[0], model.eval())
        await attended.answer()
        yield attended


async def test_maps_of_all_heads_name_the_sharpest() -> None:
    async with attending(size=(200, 50)) as at:
        maps = at.maps()
        shown = at.text("#maps")
        assert all(f"L{layer}.H{head} " in shown for layer in range(maps.layers) for head in range(maps.heads))
        best = at.view.heads[0]
        assert f"sharpest: layer {best.layer}, head {best.head}: sharpness {best.sharpness:.2f}" in at.text("#about")
        assert at.view.selected == (best.layer, best.head) and "step 30 (paused)" in at.text("#about")

        at.view.select_head(0, 0)
        await at.click(170, 40)
        assert at.view.selected == (1, 3) and not at.view.enlarged
        await at.click(170, 40)
        assert at.view.enlarged
        await at.click(13 + 4 * 2 + 1, 2 + 7)
        assert at.view.cursor == (7, 2)


async def test_keys_select_heads_and_cells_and_leave_the_screen() -> None:
    async with attending(size=(200, 50)) as at:
        at.view.select_head(0, 3)
        await at.press("right", "down")
        assert at.view.selected == (1, 0)
        await at.press("enter", "home")
        weights = at.maps().weights[1, 0]
        x = at.batch.x[at.screen.row]
        y = at.batch.y[at.screen.row]
        lines = at.text("#maps").splitlines()
        assert lines[0].split() == [str(s) for s in range(11)] and lines[1].split() == [str(token) for token in x]
        for t, line in enumerate(lines[2:13]):
            assert line.split()[:2] == [str(t), str(x[t])]
            numbers = [float(number) for number in re.findall(r"(?:1\.0|\.\d\d)", line)]
            np.testing.assert_allclose(numbers, [w for w in weights[t] if w >= 0.005], atol=0.0051)
        cell = f"t = 10: “{x[10]}” (target {y[10]}) attends to s = 0: “{x[0]}”  {weights[10, 0]:.3f}"
        assert cell in at.text("#value")
        await at.press("up", "right")
        assert at.view.cursor == (9, 1) and f"{weights[9, 1]:.3f}" in at.text("#value")
        await at.press("right_square_bracket")
        assert at.view.selected == (1, 1) and at.view.enlarged
        await at.press("escape")
        assert not at.view.enlarged and at.screen.is_current

        await at.it.pilot.press("escape")
        assert at.it.screen.is_current
        n_requests = at.screen.n_requests
        await at.it.tell(*(update(step) for step in range(31, 60)))
        assert at.screen.n_requests == n_requests and not at.screen.is_attached, "a closed screen requests nothing"


async def test_maps_follow_the_training_until_its_end_and_keep_their_example() -> None:
    async with attending() as at:
        before = at.text("#about").splitlines()[0].partition("example")[2]
        await at.press("s", "space")
        assert at.it.source.sent == [cmd.Step(1), cmd.Resume()]
        n_requests = at.screen.n_requests
        await at.it.tell(update(31), update(32))
        at.screen.tick()
        at.screen.tick()
        assert at.screen.n_requests == n_requests + 1, "one request for new weights"
        await at.answer()
        after = at.text("#about").splitlines()[0]
        assert "step 32" in after and after.endswith(before)
        row = at.screen.row
        await at.press("n")
        assert at.screen.row == row + 1 and f"({row + 2}/64)" in at.text("#about")

        shown = {binding.binding.description for binding in at.screen.active_bindings.values() if binding.enabled}
        assert {"Pause", "Step"} <= shown
        await at.it.tell(ev.Stopped(step=32, reason="done"))
        await at.answer()
        shown = {binding.binding.description for binding in at.screen.active_bindings.values() if binding.enabled}
        assert not {"Pause", "Step"} & shown and "Sharpest" in shown


async def test_long_context_is_shown_in_part_at_any_size() -> None:
    async with attending("socrates", size=(80, 24)) as at:
        await at.it.pilot.resize_terminal(200, 50)
        await at.it.pilot.pause()
        at.screen.tick()
        assert max(map(len, at.text("#maps").splitlines())) > 80
        assert "128 positions, largest of" in at.text("#value")
        await at.press("enter")
        shown = at.text("#value")
        assert re.search(r"queries \d+–127 of 128", shown) and re.search(r"keys \d+–127 of 128", shown)
        await at.press(*["left"] * 5, "home")
        assert "keys 0–" in at.text("#value")


async def test_shades_replace_colors_and_ascii_replaces_shades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("tui_lab.app.screens.live_example.has_braille", lambda: True)
    async with attending("reverse", 'faults=["no_mask"]', size=(80, 24)) as at:
        shown = at.text("#maps")
        assert HALF not in shown and {"█", "░", "·"} <= set(shown)
        assert "no causal mask" in at.text("#about")
        monkeypatch.setattr("tui_lab.app.screens.live_example.has_braille", lambda: False)
        at.screen.redraw()
        await at.it.pilot.pause()
        assert at.text("#maps").isascii()


async def test_screen_waits_for_the_model_and_needs_an_example() -> None:
    async with lab(steps=0) as it:
        loaders = it.screen.state.loaders[:]
        it.screen.state.loaders.clear()
        it.screen.frames.shown.loaders.clear()
        it.screen.batch_pane.loaded.shown_batch = None
        it.screen.state.doing = "starting"
        await it.press("A")
        assert it.screen.is_current, "there is no example yet"
        assert "starting" in [toast.message for toast in it.pilot.app._notifications][-1]
        it.screen.state.loaders.extend(loaders)
        await it.pilot.press("A")
        await it.pilot.pause()
        screen = it.pilot.app.screen
        assert isinstance(screen, AttentionScreen) and screen.view.maps is None
        assert it.screen.state.started is not None
        rows, _ = it.screen.batch_pane.current_example(it.screen.state) or pytest.fail("no example")
        at = Attending(it, screen, rows, build_model(it.config, it.screen.state.started.n_vocab).eval())
        look = it.source.looks[-1]
        assert look.refuse is not None
        look.refuse("this run has no checkpoint yet")
        it.source.looks.clear()
        await at.answer()
        assert "no checkpoint yet" in at.text("#about") and it.source.looks, "it asks again"
        assert it.source.looks[-1].loaded is not None
        it.source.looks[-1].loaded(cmd.WeightsInfo(25))
        await at.answer()
        assert "weights of step 25" in at.text("#about")


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 50), marks=pytest.mark.slow)], ids=["80x24", "200x50"])
@pytest.mark.parametrize("large", [False, True], ids=["all", "one"])
async def test_looks(
    large: bool, size: tuple[int, int], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("tui_lab.app.screens.live_example.has_braille", lambda: True)
    async with attending(size=size) as at:
        await at.press(*(["enter"] if large else []))
        assert at.it.painted() == snapshot.use_extension(PlainText)
