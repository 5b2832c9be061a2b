"""The loss pane: curves, sparklines, marks, the cursor and overlaid runs."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from textual import events

from tests.app.fake import Lab, lab, ready, update
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.panes.loss_text import merge_changes, value_at
from tui_lab.app.widgets.chart import Chart
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs


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
        assert "▸ loss" in loss and "█" in loss and loss.split()[-2:] == ["0.07667…2.3", "0.07667"]
        assert "  val loss" in val_loss and val_loss.split()[-1] == "0.16"

        values = (1, 2, 4, 8)
        await it.tell(*(ev.Changed(step=20, key="optim.lr", old=a, new=b) for a, b in pairwise(values)))
        assert [step for step, _ in drawings.last["marks"]] == [20]
        assert math.log(10) in [pytest.approx(level) for level, _ in drawings.last["references"]]
        assert "optim.lr 1 → 8" in it.text("#readout")
        train, validation = drawings.last["curves"]
        assert train.points[-1] == (30, 2.3 / 30) and validation.points == [(15, 2.4 / 15)]

        n_drawn = len(drawings.calls)
        await it.tell()
        assert len(drawings.calls) == n_drawn, "nothing has changed"


async def test_a_paused_run_is_drawn_at_once_after_every_key() -> None:
    async with lab() as it:
        await it.tell(ev.Paused(step=30))
        for new in (2, 4):
            it.source.items.append(ev.Changed(step=30, key="optim.lr", old=new / 2, new=new))
            it.screen.tick()
            await it.pilot.pause()
            assert f"→ {new}" in it.text("#readout")


async def axis(it: Lab) -> str:
    await it.pilot.pause()
    return it.text("#chart #margin-bottom")


async def test_keys_change_axis_smoothing_cursor_and_zoom(drawings: Drawings) -> None:
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        await it.pilot.press("Y")
        assert pane.log_axis and drawings.last["log"]
        await it.pilot.press("Y", "m")
        assert not drawings.last["log"] and "smoothed 0.6" in str(pane.border_subtitle)
        assert drawings.last["curves"][0].points[-1][1] > 2.3 / 30, "the mean lags behind a falling loss"

        await it.pilot.press("left")
        assert pane.cursor == 30 and (30, "white") in drawings.last["marks"]
        await it.pilot.press("right")
        assert pane.cursor is None

        whole = await axis(it)
        await it.pilot.press("plus")
        assert await axis(it) != whole
        await it.pilot.press("shift+left", "0")
        assert await axis(it) == whole


async def test_every_metric_can_be_the_large_chart(drawings: Drawings) -> None:
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        await it.tell(update(31, extra={"memory_mib": 512.0}), ev.Logged(step=31, values={"accuracy": 0.5}))
        titles = []
        for _ in range(8):
            await it.press("right_square_bracket")
            titles.append(str(pane.border_title).partition(" · ")[2])
        assert titles == ["val loss", "grad norm", "lr", "Δw / w", "tokens/s", "memory", "accuracy", ""]
        await it.press("left_square_bracket")
        [curve] = drawings.last["curves"]
        assert curve.points == [(31, 0.5)] and drawings.last["references"] == []
        assert [line for line in it.text("#sparks").splitlines() if line.startswith("▸ accuracy")]

        place = next(y for y, line in enumerate(it.text("#sparks").splitlines()) if "grad norm" in line)
        await it.pilot.click("#sparks", offset=(5, place))
        await it.tell()
        assert pane.metric == "grad_norm" and drawings.last["curves"][0].points[-1] == (31, 1 / 31)
        await it.press("down", "enter")
        assert pane.metric == "lr" and it.text("#sparks").splitlines()[place + 1].startswith("▸ lr")


async def test_overlay_shows_an_earlier_run_and_then_none() -> None:
    other = ready("reverse")
    run = runs.create("earlier", other.config, other.tokenizer)
    list(run.record([update(1), update(2)]))
    async with lab() as it:
        pane = it.screen.query_one(LossPane)
        await it.press("a")
        assert [overlay.name for overlay in pane.overlays] == [run.name] and run.name in it.text("#readout")
        await it.press("a")
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


def test_value_at_is_that_of_the_nearest_step() -> None:
    assert value_at([(1, 0.5), (10, 0.25)], 7) == 0.25 and value_at([], 7) is None


async def test_mouse_wheel_up_zooms_in() -> None:
    async with lab() as it:
        chart = it.screen.query_one(Chart)
        before = chart._x_max - chart._x_min
        for event in (events.MouseScrollUp, events.MouseScrollDown):
            await it.pilot._post_mouse_events([event], chart, offset=(30, 5))
            await it.pilot.pause()
            after = chart._x_max - chart._x_min
            assert (after < before) == (event is events.MouseScrollUp)
            before = after
