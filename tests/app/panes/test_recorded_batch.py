"""The batch pane over the batch that was recorded from a script."""

import asyncio
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.fake import Lab, state_after, update
from tests.app.script import batch, history, script_lab
from tests.app.session.helpers import MAX_TURNS
from tui_lab.app.panes.cells import LOSS_MARKS
from tui_lab.app.panes.recorded_batch import (
    NO_BATCH,
    NO_FIRST_BATCH,
    NO_TOKENS,
    RecordedBatchView,
    batch_title,
    history_text,
    returned_rows,
)
from tui_lab.core import events as ev
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, write_batch
from tui_lab.data.dataset import IGNORED


async def show(it: Lab, path: Path, recorded: RecordedBatch) -> None:
    """Write a batch and wait until the pane has read it."""
    write_batch(path, recorded)
    await it.tell()
    reader = it.screen.query_one(RecordedBatchView).reader
    assert reader is not None
    reader.join()
    await it.tell()


async def test_recorded_batch_is_shown_decoded_with_its_losses(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.press("3")
        assert it.text("#recorded").strip() == NO_BATCH
        assert it.pilot.app.focused is not None and it.pilot.app.focused.id == "recorded-cells"
        recorded = batch(29, micro_batches=4)
        await show(it, tmp_path, recorded)
        title = it.text("#recorded")
        assert "step 30" in title and "12 rows" in title and "4 micro-batches" in title
        assert "y[t] = x[t+1] for 100 %" in it.text("#alignment")
        assert "12 of 12 rows are new" in it.text("#returned")
        assert recorded.x is not None
        first = chr(ord("a") + int(recorded.x[0, 0]))
        assert it.text("#recorded-cells").splitlines()[1].split()[:2] == ["x", first]
        assert "loss 1.500" in it.text("#recorded-cell") and "top 3" in it.text("#recorded-cell")
        await it.press("n", "n")
        assert "row 3/12" in it.text("#recorded-cell") and "loss" not in it.text("#recorded-cell")


@pytest.mark.parametrize(("shares", "span"), [([1.0], "last step"), ([1.0, 0.0], "last 2 steps")])
def test_strip_of_new_rows_names_its_steps(shares: list[float], span: str) -> None:
    recorded = batch(29)
    assert returned_rows(recorded, history([-1] * 12, shares), 20).plain.endswith(span)


async def test_newer_batch_replaces_the_older_one(tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.press("3")
        await show(it, tmp_path, batch(29))
        await show(it, tmp_path, batch(30, offset=None, history=history([29] * 12, [1.0, 0.0])))
        assert "step 31" in it.text("#recorded") and "%" not in it.text("#alignment")
        assert "same rows as the step before" in it.text("#returned") and "█·" in it.text("#returned")


async def test_targets_are_shown_by_their_kind(tmp_path: Path) -> None:
    no_tokens: dict[str, Any] = dict.fromkeys(("y", "losses", "top", "probabilities"))
    async with script_lab(tmp_path, steps=30) as it:
        await it.press("3")
        ignored = np.full_like(batch(29).y, IGNORED)
        await show(it, tmp_path, replace(batch(29), y=ignored, ignore_index=-100))
        assert "y -100:" in it.text("#recorded-cell")

        classes = np.full((12, 16), 2)
        await show(it, tmp_path, batch(30, y=classes, n_classes=3))
        x, y = (set(line) for line in it.text("#recorded-cells").splitlines()[1:3])
        assert x <= set(f"{string.ascii_lowercase} ") and y - {"y", " ", *LOSS_MARKS} == {"2"}
        assert "id 2" in it.text("#recorded-cell") and "y[t]" not in it.text("#alignment")

        names = ("O", "B-PER", "I-PER")
        named = batch(31, y=classes, n_classes=3, class_names=names, row_classes=np.arange(12))
        await show(it, tmp_path, named)
        assert it.text("#recorded-cells").splitlines()[2].split()[1].startswith("I-PER")
        assert "top 3: O (0.50)  B-PER (0.30)" in it.text("#recorded-cell")
        await it.press("n")
        assert "class 1, B-PER" in it.text("#recorded-cell")

        await show(it, tmp_path, batch(32, row_classes=np.arange(12), **no_tokens))
        await it.press("n")
        assert "row 3/12; class 2" in it.text("#recorded-cell")

        no_tokens |= {"x": None, "history": None}
        await show(it, tmp_path, batch(33, x_shape="float32 [64, 1, 28, 28]", y_shape="int64 [64]", **no_tokens))
        assert "float32 [64, 1, 28, 28]" in it.text("#recorded") and NO_TOKENS in it.text("#alignment")
        await it.press("n", "A")
        assert it.screen.is_current and it.pilot.app._notifications


async def test_first_batch_is_explained_there_are_no_others_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    async with script_lab(tmp_path, steps=1) as it:
        await it.press("3")
        await it.tell(ev.Paused(step=1))
        assert " ".join(it.text("#recorded").split()) == NO_FIRST_BATCH
        await it.tell(ev.Resumed(step=1))
        assert it.text("#recorded").strip() == NO_BATCH

        for key in ("comma", "full_stop", "pageup", "slash"):
            it.pilot.app.clear_notifications()
            await it.press(key)
            assert len(it.pilot.app._notifications) == 1 and not it.screen.query_one("#goto").display, key

        (tmp_path / "batch.safetensors").write_bytes(b"no")
        await it.tell()
        reader = it.screen.query_one(RecordedBatchView).reader
        assert reader is not None
        reader.join()
        await it.tell()
        assert "cannot be read" in it.text("#recorded")


@pytest.mark.parametrize(
    ("last_step", "text"),
    [
        ([-1, -1], "2 of 2 rows are new"),
        ([9, 9], "same rows as the step before"),
        ([0, 0], "all rows were last used 10 steps ago"),
        ([3, 8], "all rows were last used 2 to 7 steps ago"),
        ([-1, 9], "1 of 2 rows are new; the others were last used one step ago"),
    ],
)
def test_sentence_says_when_the_rows_were_used_before(last_step: list[int], text: str) -> None:
    assert history_text(10, history(last_step)) == text


async def test_border_shows_only_keys_that_a_script_has(tmp_path: Path) -> None:
    async with script_lab(tmp_path, size=(120, 40)) as it:
        await it.press("3")
        assert "m by loss" in str(it.screen.batch_pane.border_subtitle)
        assert "go to" not in str(it.screen.batch_pane.border_subtitle)
        await it.press("6")
        assert "apply" not in str(it.screen.doctor_pane.border_subtitle)


@pytest.mark.parametrize(("step", "is_old"), [(29, False), (26, True)])
def test_title_of_a_batch_that_is_older_than_the_pause_stands_out(step: int, is_old: bool) -> None:
    title = batch_title(batch(step), state_after(update(30), ev.Paused(step=30)))
    assert ("3 steps ago" in title.plain) == is_old
    assert any("reverse" in str(span.style) for span in title.spans) == is_old


@pytest.mark.parametrize(("step", "losses", "is_shown"), [(29, None, True), (28, None, False), (29, 1.5, False)])
def test_loss_of_the_step_stands_for_those_that_were_not_measured(
    step: int, losses: float | None, is_shown: bool
) -> None:
    measured = None if losses is None else np.full((2, 16), losses, np.float32)
    title = batch_title(batch(step, losses=measured), state_after(update(30, 0.0767)))
    assert ("0.077" in title.plain) == is_shown


@pytest.mark.parametrize("is_late", [False, True])
async def test_batch_of_a_pause_is_shown_without_another_round_of_drawing(is_late: bool, tmp_path: Path) -> None:
    async with script_lab(tmp_path) as it:
        await it.press("3")
        await show(it, tmp_path, batch(26))
        if not is_late:
            write_batch(tmp_path, batch(29))
        await it.tell(ev.Paused(step=30))
        if is_late:
            write_batch(tmp_path, batch(29))
        for _ in range(MAX_TURNS):
            if "step 30" in it.text("#recorded"):
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it was not shown")
