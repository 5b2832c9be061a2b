"""The loss pane: curves, sparklines, marks, the cursor and overlaid runs."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from textual import events
from textual.widgets import OptionList

from tests.app.fake import lab, ready, update
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.panes.loss_text import nearest
from tui_lab.app.widgets.chart import Chart
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.runs.live_changes import merge_changes


@dataclass
class Drawings:
    """The arguments of every call of Chart.draw."""

    calls: list[dict[str, Any]]

    @property
    def last(self) -> dict[str, Any]:
        return self.calls[-1]


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> Drawings:
    recorded = Drawings([])
    draw = Chart.draw

    def record(chart: Chart, curves: Any, **options: Any) -> None:
        recorded.calls.append({"curves": curves} | options)
        draw(chart, curves, **options)

    monkeypatch.setattr(Chart, "draw", record)
    return recorded


async def test_curves_sparklines_and_marks_show_the_run(drawings: Drawings) -> None:
    async with lab() as it:
        loss, val_loss, *_ = it.text("#sparks").splitlines()
        assert loss.startswith("▸ loss") and "█" in loss and "0.07667" in loss
        assert val_loss.startswith("  val loss") and "0.16" in val_loss

        values = (1, 2, 4, 8)
        await it.tell(*(ev.Changed(step=20, key="optim.lr", old=a, new=b) for a, b in pairwise(values)))
        assert [step for step, _ in drawings.last["marks"]] == [20]
        [chance] = drawings.last["references"]
        assert chance.y == pytest.approx(math.log(10)) and "ln V 2.303" in it.text("#chart")
        assert "optim.lr 1 → 8" in it.text("#readout")
        train, validation = drawings.last["curves"]
        assert train.points[-1] == (30, 2.3 / 30) and validation.points == [(15, 2.4 / 15)]

        await it.tell(ev.Changed(step=20, key="optim.weight_decay", old=0.1, new=0.2))
        assert "lr 1 → 8, weight_decay 0.1 → 0.2 at 20" in it.text("#readout")
        await it.tell(ev.Changed(step=20, key="train.batch_size", old=4, new=8))
        assert it.text("#readout").endswith("train.batch_size 4 → 8 +2 at 20"), "there is no room for all"

        n_drawn = len(drawings.calls)
        await it.tell()
        assert len(drawings.calls) == n_drawn, "nothing has changed"

        await it.tell(*(ev.Changed(step=29, key="optim.lr", old=a, new=b) for a, b in ((8, 4), (4, 8))))
        assert [step for step, _ in drawings.last["marks"]] == [20, 29]
        await it.press("2", "left", "left")
        assert "changed and undone at 29" in it.text("#chart")


async def test_a_paused_run_is_drawn_at_once_after_every_key() -> None:
    async with lab() as it:
        await it.tell(ev.Paused(step=30))
        for new in (2, 4):
            it.source.items.append(ev.Changed(step=30, key="optim.lr", old=new / 2, new=new))
            it.screen.tick()
            await it.pilot.pause()
            assert f"→ {new}" in it.text("#readout")


async def test_keys_change_axes_smoothing_cursor_and_zoom(drawings: Drawings) -> None:
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        chart = it.screen.query_one(Chart)
        axes = []
        for _ in range(3):
            await it.pilot.press("Y")
            axes.append((drawings.last["y_axis"], round(chart.plot.y_axis.low, 3)))
        assert axes == [("zero", 0.0), ("log", 0.077), ("auto", 0.077)]
        await it.pilot.press("m")
        assert "smoothed 0.6" in str(pane.border_subtitle)
        raw, train, _ = drawings.last["curves"]
        assert raw.points[-1] == (30, 2.3 / 30) and raw.background
        assert train.points[-1][1] > 2.3 / 30, "the mean lags behind a falling loss"

        await it.pilot.press("x")
        assert it.text("#chart").splitlines()[-1].endswith("training time in s")
        await it.pilot.press("x", "x")
        assert chart.shown == (1, 30)
        await it.pilot.press("plus")
        assert chart.shown[0] > 1 and chart.shown[1] < 30
        await it.pilot.press("shift+left", "0")
        assert chart.shown == (1, 30)

        for key, is_zoomed in (("plus", True), ("0", False), ("plus", True), ("x", False)):
            await it.pilot.press(key)
            await it.pilot.pause()
            assert ("zoomed · 0 shows all" in str(pane.border_subtitle)) == is_zoomed


async def test_run_with_planted_faults_begins_with_an_axis_from_zero_to_ln_v() -> None:
    async with lab("reverse", 'faults=["no_mask"]', steps=0) as it:
        await it.tell(update(1, loss=2.3), update(2, loss=2.29))
        axis = it.screen.query_one(Chart).plot.y_axis
        assert axis.low == 0 and axis.high == pytest.approx(math.log(10))
        assert it.screen.query_one(LossPane).state_text == "axis from 0, 0% of the way to 0 after 2 steps"
        await it.press("right_square_bracket", "right_square_bracket")
        assert it.screen.query_one(LossPane).state_text == "", "the gradient norm is not a loss"
        await it.press("left_square_bracket", "left_square_bracket", "Y", "Y")
        await it.tell(update(3, loss=2.29))
        assert it.screen.query_one(LossPane).state_text == "", "the choice stays"


async def test_cursor_reads_the_nearest_points_and_names_the_changes_there() -> None:
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        await it.tell(
            ev.Changed(step=30, key="optim.lr", old=0.002, new=0.004),
            ev.Changed(step=30, key="model.dropout", old=0.0, new=0.1),
            ev.Paused(step=30),
        )
        await it.pilot.press("left")
        assert pane.cursor == 30 and it.text("#readout").startswith(
            "step 30  train 0.07667  val 0.16 at 15  lr in use 0.03"
        )
        notes = it.text("#chart")
        assert "optim.lr 0.002 → 0.004 at 30" in notes and "model.dropout 0.0 → 0.1 at 30" in notes
        await it.pilot.press("left", "h")
        assert pane.cursor == 28 and "→" not in it.text("#chart") and "train 0.08214" in it.text("#readout")
        await it.pilot.press("right", "l", "right")
        assert pane.cursor == 30, "it stays at the last point"
        await it.pilot.press("escape")
        assert pane.cursor is None and it.text("#readout").startswith("━ train 0.07667  o val 0.16")


async def test_cursor_stays_on_the_axis_and_every_number_is_whole(drawings: Drawings) -> None:
    async with lab(size=(123, 40)) as it:
        pane = it.screen.query_one(LossPane)
        await it.press("left")
        assert pane.cursor == 30 and "◆" in it.text("#chart") and it.text("#chart").count("●") == 1
        assert "…" not in it.text("#readout") and it.text("#readout").endswith("lr in use 0.03  grad norm 0.03333")
        await it.press("right_square_bracket")
        assert pane.cursor == 15 and it.text("#readout").startswith("step 15  val 0.16"), "the last validation loss"
        assert pane.query_one(Chart).plot.column(15) is not None
        await it.press("escape")
        pane.show_metric("update_ratio")
        await it.tell(*(update(step) for step in range(31, 35)))
        assert it.text("#readout").startswith("━ Δw / w 0.001 at 31")


async def test_mouse_reads_values_selects_a_range_and_zooms_at_the_pointer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab(size=(123, 40)) as it:
        await it.tell(ev.Paused(step=30))
        chart = it.screen.query_one(Chart)
        plot = chart.plot
        middle = plot.left + plot.width // 2
        await it.pilot.hover(chart, offset=(middle, 2))
        assert it.text("#readout").startswith("step 16  train 0.1437  val 0.16 at 15")
        refreshed: list[object] = []
        monkeypatch.setattr(chart, "refresh", lambda *args, **kwargs: refreshed.append(args))
        await it.pilot.hover(chart, offset=(middle, 3))
        assert refreshed == [], "the column is the same"
        monkeypatch.undo()

        await it.pilot._post_mouse_events([events.MouseScrollUp], chart, offset=(middle, 2))
        low, high = chart.shown
        assert 1 < low < 16 < high < 30 and (low + high) / 2 == pytest.approx(15.5, abs=0.2)
        await it.pilot._post_mouse_events([events.MouseScrollDown], chart, offset=(middle, 2))
        assert chart.shown == (1, 30)

        await it.pilot.mouse_down(chart, offset=(middle, 2))
        await it.pilot.hover(chart, offset=(middle + plot.width // 4, 4))
        await it.pilot.mouse_up(chart, offset=(middle + plot.width // 4, 4))
        low, high = chart.shown
        assert low == pytest.approx(15.5, abs=0.5) and high == pytest.approx(22.8, abs=0.7)
        await it.pilot.press("0")
        assert chart.shown == (1, 30)

        await it.pilot.click(chart, offset=(middle, 2))
        await it.pilot.hover("#sparks")
        assert it.screen.query_one(LossPane).cursor == 16 and it.text("#readout").startswith("step 16 ")


async def test_every_metric_can_be_the_large_chart(drawings: Drawings) -> None:
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        await it.tell(update(31, extra={"memory_mib": 512.0}), ev.Logged(step=31, values={"accuracy": 0.5}))
        titles = []
        for _ in range(8):
            await it.press("right_square_bracket")
            titles.append(str(pane.border_title).partition(" · ")[2])
        assert titles == ["val loss", "grad norm", "lr in use", "Δw / w", "tokens/s", "memory", "accuracy", ""]
        await it.press("left_square_bracket")
        [curve] = drawings.last["curves"]
        assert curve.points == [(31, 0.5)] and "references" not in drawings.last
        assert "▸ accuracy" in it.text("#sparks")

        await it.pilot.click("#sparks", offset=place_of("grad norm", it.text("#sparks")))
        await it.tell()
        assert pane.metric == "grad_norm" and drawings.last["curves"][0].points[-1] == (31, 1 / 31)
        await it.press("down", "enter")
        assert pane.metric == "lr" and "▸ lr in use" in it.text("#sparks")


def place_of(part: str, text: str) -> tuple[int, int]:
    """Return the column and the line of a part of a text."""
    return next((line.index(part), y) for y, line in enumerate(text.splitlines()) if part in line)


def earlier(name: str, preset: str, *events: ev.Event) -> runs.Run:
    other = ready(preset)
    run = runs.create(name, other.config, other.tokenizer)
    list(run.record(events))
    return run


async def test_runs_of_the_same_task_are_picked_and_shown_in_colors_with_letters(drawings: Drawings) -> None:
    old = earlier("an-old-run-with-a-long-name-by-hand", "reverse", update(1), update(2))
    new = earlier("new", "reverse", update(1), update(3))
    earlier("empty", "reverse")
    earlier("text", "pseudo-socrates", update(1))
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        await it.press("a")
        picker = it.pilot.app.screen.query_one(OptionList)
        lines = [str(option.prompt) for option in picker.options]
        assert [line.split()[1] for line in lines] == [new.name, old.name], "not the empty one, nor another task"
        await it.press("slash", "o", "l", "d")
        assert [str(option.prompt).split()[1] for option in picker.options] == [old.name]
        await it.press("escape", "space", "space", "enter")
        assert [overlay.name for overlay in pane.overlays] == [new.name, old.name]
        names = it.text("#readout").replace("\xa0", " ").replace("\n", " ")
        assert f"a {new.name} 0.7667" in names and "b an-old-run" in names and "1.15" in names
        a, b, *_ = drawings.last["curves"]
        assert a.style != b.style and (a.end, b.end) == ("a 0.7667", "b 1.15") and "a 0.7667" in it.text("#chart")

        assert [dot.sign for dot in drawings.last["dots"]] == ["a", "b", "●"], "letters at the ends, for NO_COLOR"
        height = it.screen.query_one("#readout").size.height
        await it.pilot.press("left")
        assert it.text("#readout").startswith("step 30  train 0.07667  a 0.7667  b 1.15")
        assert it.screen.query_one("#readout").size.height == height, "the chart does not move"

        await it.press("right_square_bracket", "right_square_bracket")
        assert drawings.last["curves"][0].points == [(1, 1.0), (3, 1 / 3)], "the gradient norm of the other run"
        await it.press("a", "space", "escape")
        assert len(pane.overlays) == 2
        await it.press("a", "space", "space", "enter")
        assert pane.overlays == []


def test_merge_changes_joins_changes_of_a_key_at_a_step_and_drops_undone_ones() -> None:
    def change(step: int, key: str, old: object, new: object) -> ev.Changed:
        return ev.Changed(step=step, key=key, old=old, new=new)

    assert merge_changes([change(1, "a", 1, 2), change(1, "b", 0, 1), change(1, "a", 2, 4), change(2, "a", 4, 8)]) == [
        change(1, "a", 1, 4),
        change(1, "b", 0, 1),
        change(2, "a", 4, 8),
    ]
    assert merge_changes([change(1, "a", 1, 2), change(1, "a", 2, 1)]) == []


def test_nearest_point_is_that_of_the_nearest_step() -> None:
    points = [(1.0, 0.5), (10.0, 0.25)]
    assert nearest(points, 7) == (10, 0.25) and nearest(points, 3) == (1, 0.5) and nearest(points, 99) == (10, 0.25)
    assert nearest([], 7) is None
