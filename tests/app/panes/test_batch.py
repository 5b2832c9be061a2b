"""The batch pane: which examples a step trains on, and the model's loss on them."""

import numpy as np
import pytest

from tests.app.fake import Lab, lab, update
from tui_lab.app.panes.batch import BatchPane
from tui_lab.app.panes.cells import Cells
from tui_lab.core import events as ev
from tui_lab.core.inference.example import CellLosses


async def test_batch_shows_the_latest_step_or_any_other() -> None:
    async with lab(size=(200, 50)) as it:
        loader = it.screen.state.loaders[0]
        lines = it.text("#cells").splitlines()
        x = [cell for line in lines if line.startswith("x") for cell in line.split()[1:]]
        y = [cell for line in lines if line.startswith("y") for cell in line.split()[1:]]
        assert y == ["–"] * 5 + x[5::-1], "only the reversed half is a target"
        assert it.text("#drawn").endswith("1,920 of 235,648")

        await it.press("3", "comma")
        assert "step 28  past" in it.text("#order")
        await it.press("slash", *"5000", "enter")
        assert "step 5,000  future" in it.text("#order") and str(loader.batch(5000).ids[0]) in it.text("#order")
        await it.press("full_stop", "pagedown")
        assert "step 5,101" in it.text("#order")
        await it.press("i")
        assert "step 29 " in it.text("#order") and str(loader.batch(29).ids[0]) in it.text("#order")


async def test_another_example_and_another_batch_size() -> None:
    async with lab() as it:
        await it.tell(ev.Paused(step=30))
        await it.press("3", "n")
        assert "(2/64)" in it.text("#cell")
        await it.press("N", "N")
        assert "(64/64)" in it.text("#cell")

        await it.tell(ev.Changed(step=30, key="train.batch_size", old=64, new=2), update(31))
        await it.tell(ev.Paused(step=31))
        batch = it.screen.query_one(BatchPane).shown_batch
        assert batch is not None and len(batch.ids) == 2


async def test_overfitting_shows_a_single_example_in_the_strip() -> None:
    async with lab("reverse", "data.overfit=1", steps=1) as it:
        assert it.text("#drawn").endswith("1 of 1")


def answer_inspections(it: Lab) -> None:
    """Run the functions that wait for the model, without one."""
    inspections, it.source.looks = it.source.looks, []
    for inspection in inspections:
        inspection.look(None)  # type: ignore[arg-type]


async def test_cell_shows_its_loss_and_the_top_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.linspace(0, 6, 128, dtype=np.float32)
    measured = CellLosses(losses, np.tile(np.arange(5), (128, 1)), np.full((128, 5), 0.2, np.float32))
    monkeypatch.setattr("tui_lab.core.inference.example.cell_losses", lambda model, x, y: measured)
    async with lab("socrates", size=(200, 50)) as it:
        await it.tell(ev.Paused(step=30))
        answer_inspections(it)
        await it.tell()
        await it.press("3", "end")
        shown = it.text("#cell")
        assert all(part in shown for part in ("t = 127", "loss 6.000", "top ", "of the source"))
        assert "█" in it.text("#cells"), "a large loss is marked without color too"
        await it.press("home", "right", "down", "up", "left")
        assert it.screen.query_one(Cells).selected == 0 and "loss 0.000" in it.text("#cell")
