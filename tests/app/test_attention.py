"""The maps of attention over the example of the batch pane, from a real model with known weights."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual.app import App

from tests.app.fake import Lab, lab, update
from tests.app.test_looks import luminance
from tui_lab.app.app import THEMES, LabApp
from tui_lab.app.screens.attention import AttentionScreen
from tui_lab.app.widgets import heatmap
from tui_lab.app.widgets.attention_grid import grid_of, part_around, window_of
from tui_lab.app.widgets.heatmap import HALF, LETTERS, SHADES, UNSEEN, Lines, Ramp, fitting, pooled, ramp_of
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.inference.attention import AttentionMaps
from tui_lab.core.inference.example import attention_maps
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code.external_model import Model

COLOURS = Ramp(tuple(f"#{i:02x}{i:02x}{i:02x}" for i in range(0, 256, 8)), "#000000")
SIGNS = Ramp((), "")


class Plain(SingleFileSnapshotExtension):
    file_extension = "txt"
    _write_mode = WriteMode.TEXT


@dataclass
class Attending:
    """The screen over a lab whose training answers looks at the model when told to."""

    it: Lab
    screen: AttentionScreen
    model: Model

    async def answer(self) -> None:
        """The training's thread comes to a step boundary; then time passes."""
        looks, self.it.source.looks = self.it.source.looks, []
        for look in looks:
            look.look(self.model)
        self.it.now[0] += 10.0
        self.screen.tick()
        await self.it.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.it.pilot.press(*keys)
        await self.answer()

    def text(self, selector: str) -> str:
        widget = self.screen.query_one(selector)
        return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))

    def maps(self) -> AttentionMaps:
        found = self.it.screen.batch_pane.looked_at(self.it.screen.state)
        assert found is not None
        maps = attention_maps(self.model, found[0].x[self.screen.row])
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
                    parameter.mul_(8.0)  # Weights as they begin look everywhere alike.
        it.source.looks.clear()
        await it.pilot.press("A")
        screen = it.pilot.app.screen
        assert isinstance(screen, AttentionScreen)
        attended = Attending(it, screen, model.eval())
        await attended.answer()
        yield attended


def of_this(looks: list[cmd.Inspect]) -> list[cmd.Inspect]:
    return [look for look in looks if "AttentionScreen" in look.look.__qualname__]


async def test_every_head_has_its_map_and_the_sharpest_is_named() -> None:
    async with attending(size=(200, 50)) as at:
        shown, maps = at.text("#maps"), at.maps()
        for layer in range(maps.layers):
            for head in range(maps.heads):
                assert f"{layer}.{head} " in shown
        best = at.screen.heads[0]
        assert f"sharpest: layer {best.layer}, head {best.head}: sharpness {best.sharpness:.2f}" in at.text("#about")
        assert at.screen.chosen == (best.layer, best.head)
        assert "step 30 (paused)" in at.text("#about")


async def test_arrows_choose_a_head_and_enter_shows_its_numbers_and_tokens() -> None:
    async with attending(size=(200, 50)) as at:
        at.screen._go_to((0, 3))
        await at.press("right", "down")
        assert at.screen.chosen == (1, 0)
        await at.press("enter", "home")
        weights, found = at.maps().weights[1, 0], at.it.screen.batch_pane.looked_at(at.it.screen.state)
        assert found is not None
        x = found[0].x[0]
        lines = at.text("#maps").splitlines()
        assert lines[0].split() == [str(s) for s in range(11)] and lines[1].split() == [str(token) for token in x]
        for t, line in enumerate(lines[2:13]):
            assert line.split()[:2] == [str(t), str(x[t])]
            told = [float(number) for number in re.findall(r"(?:1\.0|\.\d\d)", line)]
            np.testing.assert_allclose(told, [w for w in weights[t] if w >= 0.005], atol=0.0051)
        assert f"t = 10 {x[10]} (target {found[0].y[0][10]}) attends to s = 0 {x[0]}: {weights[10, 0]:.3f}" in at.text(
            "#value"
        )
        await at.press("up", "right")
        assert f"t = 9 {x[9]}" in at.text("#value") and f"s = 1 {x[1]}: {weights[9, 1]:.3f}" in at.text("#value")
        await at.press("right_square_bracket")
        assert at.screen.chosen == (1, 1) and at.screen.large
        await at.press("escape")
        assert not at.screen.large and at.screen.is_current
        await at.it.pilot.press("escape")
        assert at.it.screen.is_current


async def test_it_follows_the_training_and_keeps_its_example() -> None:
    async with attending() as at:
        before = at.text("#about").splitlines()[0].partition("example")[2]
        await at.press("s", "space")
        assert at.it.source.sent == [cmd.Step(1), cmd.Resume()]
        at.it.source.looks.clear()
        await at.it.tell(update(31), update(32))
        at.screen.tick()
        [asked] = of_this(at.it.source.looks)
        at.screen.tick()
        assert of_this(at.it.source.looks) == [asked], "one look a change of the weights"
        await at.answer()
        after = at.text("#about").splitlines()[0]
        assert "step 32" in after and after.endswith(before)
        row = at.screen.row
        await at.press("n")
        assert at.screen.row == row + 1 and f"({row + 2}/64)" in at.text("#about")


async def test_a_dear_look_is_taken_seldom() -> None:
    async with attending() as at:
        await at.it.tell(ev.Resumed(step=30))
        assert at.screen._looked is not None
        object.__setattr__(at.screen._looked, "seconds", 0.1)
        at.it.source.looks.clear()
        await at.it.tell(update(31))
        at.screen.tick()
        assert not of_this(at.it.source.looks), "ten seconds are too soon after one of 100 ms"
        at.it.now[0] += 50.0
        at.screen.tick()
        assert len(of_this(at.it.source.looks)) == 1


async def test_closed_it_asks_for_nothing() -> None:
    async with lab() as it:
        assert not of_this(it.source.looks)
    async with attending() as at:
        await at.it.pilot.press("escape")
        at.it.source.looks.clear()
        await at.it.tell(*(update(step) for step in range(31, 60)))
        assert not of_this(at.it.source.looks) and not at.screen.is_attached


async def test_a_new_size_is_drawn_at_the_next_tick() -> None:
    async with attending("socrates", size=(80, 24)) as at:
        await at.it.pilot.resize_terminal(200, 50)
        await at.it.pilot.pause()
        at.screen.tick()
        assert max(map(len, at.text("#maps").splitlines())) > 80


async def test_without_colours_shades_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with attending(size=(80, 24)) as at:
        shown = at.text("#maps")
        assert HALF not in shown and {"█", "░", "·"} <= set(shown)
        await at.press("enter")
        assert "█" in at.text("#maps")
    monkeypatch.setattr("tui_lab.app.screens.attention.has_braille", lambda: False)
    async with attending(size=(80, 24)) as at:
        assert at.text("#maps").isascii()


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_a_long_context_is_shown_in_part_and_says_so(size: tuple[int, int]) -> None:
    async with attending("socrates", size=size) as at:
        assert "128 positions, largest of" in at.text("#value")
        await at.press("enter")
        told = at.text("#value")
        assert re.search(r"queries \d+–127 of 128", told) and re.search(r"keys \d+–127 of 128", told)
        await at.press(*["left"] * 5, "home")
        assert "keys 0–" in at.text("#value")


async def test_a_missing_mask_is_said() -> None:
    async with attending("reverse", 'faults=["no_mask"]') as at:
        assert "no causal mask" in at.text("#about")


async def test_a_click_chooses_a_map_enlarges_it_and_points_at_a_number() -> None:
    async with attending(size=(200, 50)) as at:
        at.screen._go_to((0, 0))
        await at.it.pilot.click("#maps", offset=(170, 40))
        await at.answer()
        assert at.screen.chosen == (1, 3) and not at.screen.large
        await at.it.pilot.click("#maps", offset=(170, 40))
        await at.answer()
        assert at.screen.large
        await at.it.pilot.click("#maps", offset=(13 + 4 * 2 + 1, 2 + 7))
        await at.answer()
        assert at.screen.cursor == (7, 2)


async def test_before_the_model_answers_it_says_what_it_waits_for() -> None:
    async with lab() as it:
        await it.pilot.press("A")
        await it.pilot.pause()
        about = it.pilot.app.screen.query_one("#about")
        assert "waiting for the trainer" in about.render_line(1).text
    async with lab(steps=0) as it:
        it.screen.state.loaders.clear()
        it.screen.batch_pane.held = None
        await it.pilot.press("A")
        assert it.screen.is_current, "before a run is open there is no example"


@pytest.mark.parametrize("size", [(80, 24), pytest.param((200, 50), marks=pytest.mark.slow)], ids=["80x24", "200x50"])
@pytest.mark.parametrize("large", [False, True], ids=["all", "one"])
async def test_looks(
    large: bool, size: tuple[int, int], snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("tui_lab.app.screens.attention.has_braille", lambda: True)
    async with attending(size=size) as at:
        await at.press(*(["enter"] if large else []))
        assert at.it.painted() == snapshot.use_extension(Plain)


# Drawing


@pytest.mark.parametrize("theme", THEMES)
async def test_a_ramp_goes_one_way_and_its_ends_are_far_apart(theme: str) -> None:
    async with LabApp().run_test() as pilot:
        app: App[None] = pilot.app
        app.theme = theme
        ramp = ramp_of(app.current_theme)
    lights = [luminance(colour) for colour in ramp.colours]
    ways = np.sign(np.diff(lights))
    assert len(ramp.colours) == heatmap.STEPS and (set(ways.tolist()) in ({1.0}, {-1.0}))
    low, high = sorted((lights[0], lights[-1]))
    assert (high + 0.05) / (low + 0.05) >= 7.0
    for level in range(heatmap.STEPS):
        dark, light = sorted((luminance(ramp.colour(level)), luminance(ramp.text(level))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, "the numbers can be read"


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_pooling_loses_no_peak_and_keeps_to_its_room(n: int, rows: int, columns: int, seed: int) -> None:
    weights = np.random.default_rng(seed).random((n, n)).astype(np.float32)
    small = pooled(weights, rows, columns)
    assert small.shape[0] <= rows and small.shape[1] <= columns and small.max() == weights.max()
    assert pooled(weights, n, n).tolist() == weights.tolist()


@given(st.integers(1, 200), st.integers(1, 100), st.integers(1, 60), st.sampled_from([COLOURS, SIGNS]))
def test_a_picture_fits_its_room(n: int, columns: int, lines: int, ramp: Ramp) -> None:
    points, scale = fitting(n, ramp, columns, lines)
    levels = np.full((points, points), UNSEEN)
    drawn = heatmap.picture(levels, ramp, scale)
    assert len(drawn) <= lines and all(sum(len(s.text) for s in line) <= columns for line in drawn)
    assert points == n or scale == 1


@given(st.integers(1, 100), st.integers(1, 100), st.data())
def test_the_chosen_is_always_shown(n: int, most: int, data: st.DataObject) -> None:
    chosen = data.draw(st.integers(0, n - 1))
    part = part_around(chosen, n, most)
    assert part.shown <= max(1, most) and 0 <= part.first <= chosen < part.first + part.shown <= n
    grid = grid_of(n, n, (chosen, chosen), 80, 20)
    assert grid.rows.first <= chosen < grid.rows.first + grid.rows.shown
    window = window_of(n, (chosen, chosen), 80, 20)
    assert window.columns.first <= chosen < window.columns.first + window.columns.shown


def test_levels_begin_with_nothing_and_end_with_all() -> None:
    for ramp in (COLOURS, SIGNS, Ramp((), "", LETTERS)):
        values = np.array([0.0, 0.3, 1.0], dtype=np.float32)
        low, middle, high = ramp.levels(values, np.array([True, True, True])).tolist()
        assert low == 0 and low < middle < high == ramp.steps - 1
        assert ramp.levels(values, np.array([False] * 3)).tolist() == [UNSEEN] * 3
    assert len(SHADES) == len(LETTERS)


def test_lines_are_only_painted_anew_where_they_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, painted = Lines("x"), list[int]()
    monkeypatch.setattr(lines, "refresh", lambda: painted.append(1))
    drawn = heatmap.picture(np.array([[0, 1], [1, 0]]), COLOURS)
    lines.put(drawn)
    lines.put(heatmap.picture(np.array([[0, 1], [1, 0]]), COLOURS))
    assert painted == [1]
