"""What each pane shows of injected events, and what its own keys do."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from textual.widgets import DataTable, Input, RichLog, Sparkline

from tests.app.fake import evaluated, lab, ready, update
from tui_lab.app.panes.batch import BatchPane, Look
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.panes.events import EventsPane
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.session.messages import GenerationFinished, Preparing, SessionFailed, TokenGenerated
from tui_lab.app.widgets.chart import Chart
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.inference.example import CellLosses
from tui_lab.core.inference.sampling import Alternative, Generated


async def edit(it: Any, key: str, text: str) -> None:
    """Go to a setting, type, and leave the cursor in the field."""
    await it.press("1")
    table = it.screen.query_one("#settings", DataTable)
    table.move_cursor(row=list(settings.fields()).index(key))
    await it.press("enter")
    it.screen.query_one("#value", Input).value = ""
    await it.press(*text)


# Config


async def test_every_setting_has_its_row() -> None:
    async with lab() as it:
        table = it.screen.query_one("#settings", DataTable)
        assert [row.value for row in table.rows] == list(settings.fields())


async def test_a_live_setting_is_sent_when_it_is_entered() -> None:
    async with lab() as it:
        await edit(it, "optim.lr", "0.05")
        assert it.source.sent == []
        await it.press("enter")
        assert it.source.sent == [cmd.Set("optim.lr", 0.05)]


async def test_another_setting_waits_for_a_restart() -> None:
    async with lab(size=(200, 50)) as it:
        await edit(it, "model.d_model", "32")
        await it.press("enter")
        assert it.source.sent == []
        assert "restart" in it.text("#settings")
        about = it.text("#about").replace("\n", " ")
        assert "started as 64" in about and "needs restart" in about


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("optim.lr", "fast", "must be a number"),
        ("optim.lr", "-1", "must be at least 0"),
        ("optim.name", "adma", "did you mean 'adam'?"),
        ("model.context", "3", "2 × 6 - 1 = 11"),
    ],
)
async def test_what_is_wrong_is_said_while_one_types(key: str, text: str, words: str) -> None:
    async with lab(size=(200, 50)) as it:
        await edit(it, key, text)
        assert words in it.text("#problem").replace("\n", " ")
        await it.press("enter")
        assert it.source.sent == [] and it.screen.query_one("#value", Input).has_focus
        await it.press("escape")
        assert it.screen.query_one(ConfigPane).edited == it.config


async def test_the_parameter_count_follows_what_is_typed() -> None:
    async with lab() as it:
        assert "101,450" in it.text("#parameters")
        await edit(it, "model.n_layers", "4")
        four = it.text("#parameters")
        assert "101,450" not in four
        await it.press("escape", "p")
        assert "W_Q" in it.text("#parameters")


async def test_a_change_from_elsewhere_shows_and_keeps_what_was_edited() -> None:
    async with lab() as it:
        pane = it.screen.query_one(ConfigPane)
        pane.choose("model.d_model", 32)
        await it.tell(ev.Changed(step=30, key="optim.lr", old=0.003, new=0.006))
        assert pane.edited is not None
        assert (pane.edited.optim.lr, pane.edited.model.d_model) == (0.006, 32)


async def test_only_what_differs_and_back_to_the_preset() -> None:
    async with lab() as it:
        await it.press("1")
        pane = it.screen.query_one(ConfigPane)
        pane.choose("model.d_model", 32)
        await it.press("v")
        table = it.screen.query_one("#settings", DataTable)
        assert [row.value for row in table.rows] == ["model.d_model"]
        await it.press("x")
        assert pane.edited == it.config and table.row_count == 0


# Loss


async def test_sparklines_and_their_newest_values() -> None:
    async with lab() as it:
        assert it.text("#last-loss").strip() == f"{2.3 / 30:,.4g}"
        assert it.text("#last-val_loss").strip() == f"{2.4 / 15:,.4g}"
        data = it.screen.query_one("#spark-loss", Sparkline).data
        assert data is not None and max(data) == 2.3 and min(data) == 2.3 / 30


async def test_the_chart_has_curves_the_line_at_chance_and_marks() -> None:
    async with lab() as it:
        await it.tell(ev.Changed(step=20, key="optim.lr", old=1, new=2))
        chart = it.screen.query_one(Chart)
        assert [line.x for line in chart._v_lines] == [20]
        levels = [float(d.y[0]) for d in chart._datasets if len(set(d.y.tolist())) == 1]
        assert math.log(10) in [pytest.approx(level) for level in levels]
        assert "optim.lr 1 → 2" in it.text("#readout")


async def test_changes_of_one_key_at_one_step_are_one_mark() -> None:
    async with lab() as it:
        values = (1, 2, 4, 8)
        await it.tell(*(ev.Changed(step=20, key="optim.lr", old=a, new=b) for a, b in pairwise(values)))
        assert [line.x for line in it.screen.query_one(Chart)._v_lines] == [20]
        assert "optim.lr 1 → 8" in it.text("#readout")
        await it.tell(ev.Changed(step=20, key="optim.lr", old=8, new=1))
        assert not it.screen.query_one(Chart)._v_lines


async def test_log_axis_smoothing_and_cursor() -> None:
    async with lab() as it:
        chart, pane = it.screen.query_one(Chart), it.screen.query_one(LossPane)
        await it.press("y")
        assert pane.log_axis and min(float(d.y.min()) for d in chart._datasets) == pytest.approx(math.log10(2.3 / 30))
        await it.press("y", "m")
        assert "smoothed 0.6" in str(pane.border_subtitle)
        await it.press("left_square_bracket")
        assert "at step 30" in it.text("#readout")
        await it.press("right_square_bracket")
        assert "at step" not in it.text("#readout")


async def test_zoom_and_pan_move_the_axes_and_zero_restores_them() -> None:
    async with lab() as it:
        chart = it.screen.query_one(Chart)
        whole = (chart._x_min, chart._x_max)
        await it.press("plus")
        assert (chart._x_min, chart._x_max) != whole
        await it.press("left", "0")
        assert (chart._x_min, chart._x_max) == whole


async def test_an_earlier_run_can_be_laid_over() -> None:
    from tui_lab.core.runs import folder as runs

    other = ready("reverse")
    run = runs.create("earlier", other.config, other.task.tokenizer)
    list(run.record([update(1), update(2)]))
    async with lab() as it:
        await it.press("a")
        pane = it.screen.query_one(LossPane)
        assert [overlay.name for overlay in pane.overlays] == [run.name] and run.name in it.text("#readout")
        await it.press("a")
        assert pane.overlays == []


async def test_the_chart_is_not_drawn_again_without_news(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        drawn: list[int] = []
        monkeypatch.setattr(pane, "redraw", lambda: drawn.append(1))
        await it.tell()
        await it.tell()
        assert drawn == []
        await it.tell(update(31))
        assert drawn == [1]
        it.source.items.append(update(32))
        it.screen.tick()
        assert drawn == [1], "not twice within half a second"


# Batch


async def test_x_stands_over_y_and_ignored_targets_are_marked() -> None:
    async with lab(size=(200, 50)) as it:
        lines = it.text("#cells").splitlines()
        x = [cell for line in lines if line.startswith("x") for cell in line.split()[1:]]
        y = [cell for line in lines if line.startswith("y") for cell in line.split()[1:]]
        assert y == ["–"] * 5 + x[5::-1]


async def test_the_batch_is_that_of_the_newest_step() -> None:
    async with lab(steps=1) as it:
        loader = it.screen.state.loaders[0]
        assert "step 0" in it.text("#order") and str(loader.batch(0).ids[0]) in it.text("#order")
        await it.tell(ev.Paused(step=1))
        await it.tell(update(2))
        assert "step 1" in it.text("#order") and str(loader.batch(1).ids[0]) in it.text("#order")


async def test_any_step_past_or_future_can_be_gone_to() -> None:
    async with lab(size=(200, 50)) as it:
        loader = it.screen.state.loaders[0]
        await it.press("3", "comma")
        assert "step 28  past" in it.text("#order")
        await it.press("slash", *"5000", "enter")
        assert "step 5,000  future" in it.text("#order") and str(loader.batch(5000).ids[0]) in it.text("#order")
        await it.press("full_stop", "pagedown")
        assert "step 5,101" in it.text("#order")
        await it.press("i")
        assert "step 29 " in it.text("#order")


async def test_the_strip_shows_overfitting_at_a_glance() -> None:
    async with lab("reverse", "data.overfit=1") as it:
        assert it.text("#drawn").endswith("1 of 1")
    async with lab("reverse") as it:
        assert "1,920 of 235,648" in it.text("#drawn")


async def test_a_live_change_of_the_batch_size_shows_in_the_ids() -> None:
    async with lab() as it:
        await it.tell(ev.Changed(step=30, key="train.batch_size", old=64, new=2), update(31))
        assert it.screen.query_one(BatchPane).held is not None
        await it.tell(ev.Paused(step=31))
        held = it.screen.query_one(BatchPane).held
        assert held is not None and len(held.ids) == 2


async def test_a_cell_tells_its_loss_and_the_likeliest_tokens() -> None:
    async with lab("socrates", size=(200, 50)) as it:
        await it.tell(ev.Paused(step=30))
        pane = it.screen.query_one(BatchPane)
        assert pane.held is not None
        top = np.tile(np.arange(5), (128, 1))
        losses = np.linspace(0, 6, 128, dtype=np.float32)
        pane._looks.put(Look(pane.held, 0, CellLosses(losses, top, np.full((128, 5), 0.2, np.float32)), 0.0))
        await it.tell()
        await it.press("3", "end")
        shown = it.text("#cell")
        assert "loss 6.000" in shown and "top 5" in shown and "bytes" in shown and "of the source" in shown
        await it.press("home", "right", "down", "up", "left")
        assert "t = 0" in it.text("#cell") and "loss 0.000" in it.text("#cell")
        assert "█" in it.text("#cells"), "a surprising cell is marked without colour too"


async def test_a_target_that_is_not_the_next_token_is_marked() -> None:
    async with lab("socrates", size=(200, 50)) as it:
        pane = it.screen.query_one(BatchPane)
        assert pane.held is not None and "≠" not in it.text("#cells")
        await it.tell(ev.Paused(step=30))
        y = pane.held.y.copy()
        y[0, 3] += 1
        pane.held = replace(pane.held, y=y)
        pane._show_held(it.screen.state)
        await it.pilot.pause()
        assert it.text("#cells").count("≠") == 1


async def test_the_next_example_of_the_batch() -> None:
    async with lab() as it:
        await it.tell(ev.Paused(step=30))
        await it.press("3", "n")
        assert "(2/64)" in it.text("#cell")
        await it.press("N", "N")
        assert "(64/64)" in it.text("#cell")


# Generation


def token(text: str, p: float = 0.9) -> Generated:
    return Generated(ord(text[0]) % 10, text, p, (Alternative(1, 0.5), Alternative(2, 0.3)))


async def test_a_reversed_row_is_judged() -> None:
    async with lab(size=(200, 50)) as it:
        pane = it.screen.query_one(GenerationPane)
        it.screen.query_one("#prompt", Input).value = "123456"
        await it.press("g")
        for text in "654321":
            pane.hear(TokenGenerated(1, token(text)))
        pane.hear(GenerationFinished(1))
        await it.tell()
        assert "step 30 123456654321  ✓ right" in it.text("#answers")
        await it.press("g")
        pane.hear(TokenGenerated(2, token("1")))
        pane.hear(GenerationFinished(2))
        await it.tell()
        assert "✗ expected 654321" in it.text("#answers") and "✓ right" in it.text("#answers"), "earlier answers stay"


async def test_alternatives_of_a_chosen_token() -> None:
    async with lab(size=(200, 50)) as it:
        await it.press("g")
        pane = it.screen.query_one(GenerationPane)
        pane.hear(TokenGenerated(1, token("6", 0.25)))
        await it.tell()
        await it.press("right")
        assert "p = 0.250; alternatives" in it.text("#alternatives")


async def test_the_prompt_is_asked_again_every_so_many_steps() -> None:
    async with lab() as it:
        it.screen.query_one("#every", Input).value = "5"
        await it.press("g")
        await it.tell(update(31))
        await it.tell(update(34))
        pane = it.screen.query_one(GenerationPane)
        assert len(pane.answers) == 1
        await it.tell(update(35))
        assert [answer.step for answer in pane.answers] == [30, 35]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("temperature", "-1", "temperature = -1.0"), ("top_p", "0", "top_p"), ("tokens", "0", "tokens = 0"),
     ("prompt", "", "the prompt is empty")],
)  # fmt: skip
async def test_what_is_wrong_with_the_fields_is_said(field: str, value: str, words: str) -> None:
    async with lab() as it:
        it.screen.query_one(f"#{field}", Input).value = value
        await it.press("g")
        assert words in it.text("#alternatives") and it.source.sent == []


# Events and status


async def test_the_log_tells_what_happened_in_words_and_is_bounded() -> None:
    async with lab(size=(200, 50)) as it:
        await it.tell(ev.Saved(step=30, path="checkpoints/step-30"), ev.Failed(step=30, message="not finite"))
        shown = it.text("#log")
        assert "saved checkpoints/step-30" in shown and "failed: not finite" in shown
        log = it.screen.query_one(RichLog)
        assert log.max_lines == 2000


async def test_what_is_printed_lands_in_the_log() -> None:
    async with lab(size=(200, 50)) as it:
        print("from user code")  # noqa: T201
        await it.pilot.pause()
        assert "stdout: from user code" in it.text("#log")


async def test_an_evaluation_without_a_metric_is_shown_by_its_loss() -> None:
    async with lab(size=(200, 50)) as it:
        await it.tell(replace(evaluated(30), exact_match=None, val_loss=1.2345))
        assert "validation loss 1.2345" in it.text("#log")


async def test_trouble_leaves_the_app_up_and_says_why() -> None:
    async with lab() as it:
        await it.tell(SessionFailed("the training broke off: MemoryError()", "Traceback …"))
        assert it.screen.state.phase == "failed" and "✗ failed" in it.text("#status")
        await it.press("5")
        assert "MemoryError" in it.text("#log")
        assert it.screen.query_one(EventsPane).display


async def test_the_status_line_says_state_step_time_and_memory() -> None:
    async with lab(size=(200, 50)) as it:
        shown = it.text("#status")
        for words in ("▶ running", "step 30/2,500", "epoch 0", "ETA 0:25", "70,430 tok/s", "cpu ×2", "256 MiB"):
            assert words in shown
        await it.tell(Preparing("encoding", 1, 4))
        assert it.screen.state.doing == "encoding 25%"
        await it.tell(evaluated(30))


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 50), (300, 100)])
async def test_every_size_works(size: tuple[int, int]) -> None:
    async with lab(size=size) as it:
        for key in "12345z1":
            await it.press(key)
        assert it.screen.query_one("#status").region.width == size[0]


async def test_too_small_is_said_and_larger_again_works() -> None:
    async with lab(size=(30, 8)) as it:
        assert it.screen.query_one("#small").display and not it.screen.query_one("#panes").display
        await it.pilot.resize_terminal(120, 40)
        await it.tell()
        assert it.screen.query_one("#panes").display and not it.screen.query_one("#small").display
