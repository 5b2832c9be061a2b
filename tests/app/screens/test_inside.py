"""The screen that looks inside a model: its views, their keys, and the measurements it asks for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from tests.app.fake import Lab, lab, update
from tui_lab.app.screens.inside.screen import InsideScreen
from tui_lab.app.session.attention_source import Rows
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.inside.ablation import ablate
from tui_lab.core.inside.lens import logit_lens
from tui_lab.core.inside.norms import stream_norms
from tui_lab.core.inside.results import Ablation, LogitLens, StreamNorms
from tui_lab.core.training.model_factory import build_model
from tui_lab.core.user_code.external_model import Model


@dataclass
class Looking:
    """The screen over a lab, and the model that answers its requests."""

    it: Lab
    screen: InsideScreen
    rows: Rows
    model: Model

    async def answer(self) -> None:
        """Answer the requests, and let the screen draw."""
        looks = self.it.source.looks
        self.it.source.looks = []
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


def by_layer(step: int) -> dict[str, dict[str, float]]:
    values = {"layers.0": 1.0 / step, "layers.1": 2.0 / step}
    return {"grad_norm": values, "update_ratio": values, "dead_units": {"layers.0": 0.125, "layers.1": 0.5}}


@asynccontextmanager
async def looking(size: tuple[int, int] = (120, 40)) -> AsyncIterator[Looking]:
    async with lab("reverse", size=size) as it:
        await it.tell(*(update(step, by_layer=by_layer(step)) for step in (51, 101, 151)), ev.Paused(step=151))
        assert it.screen.state.started is not None
        model = build_model(it.config, it.screen.state.started.n_vocab)
        it.source.looks.clear()
        rows, _ = it.screen.batch_pane.current_example(it.screen.state) or pytest.fail("no example")
        await it.pilot.press("I")
        screen = it.pilot.app.screen
        assert isinstance(screen, InsideScreen)
        looked = Looking(it, screen, rows, model.eval())
        await looked.answer()
        yield looked


async def test_views_show_what_was_measured() -> None:
    async with looking((80, 24)) as at:
        row = at.screen.row
        x, y = at.rows.x[row], at.rows.y[row]
        lens = logit_lens(at.model, x, y)
        assert isinstance(lens, LogitLens)
        lines = at.text("#inside").splitlines()
        assert lines[1].split()[1:] == [str(token) for token in x.tolist()]
        last = lines[3 + len(lens.places) - 1]
        assert last.startswith("layer 1")
        assert f"probability {lens.target_probabilities[-1, -1]:.3g}, rank {lens.ranks[-1, -1]}" in at.text("#value")
        assert f"loss {lens.losses[-1, -1]:.3f}" in at.text("#value") and "head" in at.text("#tabs")
        assert "step 151 (paused)" in at.text("#about")

        await at.press("2")
        chosen = np.arange(row, row + 4) % len(at.rows.x)
        ablation = ablate(at.model, at.rows.x[chosen], at.rows.y[chosen])
        assert isinstance(ablation, Ablation)
        change = float(ablation.example.heads[0, 0] - ablation.example.base)
        assert f"{change:+.3f}" in at.text("#inside") and "head 0" in at.text("#inside")
        assert f"{ablation.example.base:.3f}" in at.text("#about") and "3 other rows" in at.text("#value")

        await at.press("tab")
        norms = stream_norms(at.model, x)
        assert isinstance(norms, StreamNorms)
        await at.press("down", "down", "down", "end")
        assert f"norm {norms.stream[1, -1]:.4g} of the residual stream" in at.text("#value")

        await at.press("4")
        assert at.text("#inside").count("layer 1") == 3 and "dead units" in at.text("#inside")
        await at.press("end")
        assert "layer 1, dead units: 0.5 at step 151" in at.text("#value")


async def test_keys_change_the_color_the_ablation_and_the_example() -> None:
    async with looking() as at:
        await at.press("m")
        assert "1 / rank of the target" in at.text("#value")
        await at.press("2", "b")
        assert "its mean over all positions" in at.text("#value")
        row = at.screen.row
        n_requests = at.screen.n_requests
        await at.press("n")
        assert at.screen.row == row + 1 and at.screen.n_requests == n_requests + 1
        await at.press("space")
        assert at.it.source.sent == [cmd.Resume()]
        await at.it.pilot.press("escape")
        assert at.it.screen.is_current


async def test_weights_that_change_are_measured_again_and_a_closed_screen_asks_for_nothing() -> None:
    async with looking() as at:
        n_requests = at.screen.n_requests
        await at.answer()
        assert at.screen.n_requests == n_requests, "the weights are the same"
        await at.it.tell(update(152))
        at.screen.tick()
        await at.answer()
        assert at.screen.n_requests == n_requests + 1 and "step 152" in at.text("#about")
        await at.it.pilot.press("escape")
        at.it.source.looks.clear()
        await at.it.tell(update(153))
        assert at.screen.n_requests == n_requests + 1


async def test_no_weights_and_no_layers_are_said() -> None:
    async with lab("reverse", steps=0) as it:
        it.source.role = "replay"
        await it.pilot.press("I")
        screen = it.pilot.app.screen
        assert isinstance(screen, InsideScreen)
        assert it.source.looks
        refuse = it.source.looks[-1].refuse
        assert refuse is not None
        refuse("no checkpoint yet")
        screen.tick()
        await it.pilot.pause()
        about = screen.query_one("#about")
        assert "no checkpoint yet" in "\n".join(about.render_line(y).text for y in range(2))
        await it.pilot.press("4")
        await it.pilot.pause()
        assert "no measurements by layer yet" in "\n".join(about.render_line(y).text for y in range(2))
