"""Spikes of the loss in the app: marked in the chart, logged once, and reached by keys."""

from pathlib import Path

import pytest

from tests.app.fake import Lab, lab, update
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.panes.marked_steps import MarkedSteps, next_step
from tui_lab.app.session.messages import Rewound
from tui_lab.app.widgets.chart import Chart
from tui_lab.core.runs.outlier_rows import OutlierIndex, OutlierRow
from tui_lab.core.runs.spikes import Spike

SPIKE = 60
N_STEPS = 80


async def tell_spike(it: Lab) -> None:
    """Let the run make 80 steps, with a spike."""
    losses = {SPIKE: 3.5}
    await it.tell(*(update(step, loss=losses.get(step, 1.4 + 0.01 * (step % 3))) for step in range(1, N_STEPS + 1)))


def outliers_are(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let the third of 16 rows have stood out in these steps of any run."""
    rows = {step: OutlierRow(step, 2, 7, 5.0, 1.4, 16) for step in steps}
    monkeypatch.setattr(MarkedSteps, "_read", lambda self, folder, changes: rows)


async def test_replay_that_goes_back_forgets_the_spikes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    outliers_are(monkeypatch)
    async with lab(steps=0) as it:
        await tell_spike(it)
        assert [spike.step for spike in it.screen.state.spikes.until(N_STEPS)] == [SPIKE]
        assert it.screen.events_pane.copied().count("(2 N Enter: its rows)") == 1
        assert "n N spike" in it.screen.query_one(LossPane).hints and "▲" in it.text("#chart")
        ready = it.screen.state.ready
        assert ready is not None
        past = tuple(update(step, loss=1.4 + 0.01 * (step % 3)) for step in range(1, 50))
        await it.tell(Rewound(ready, past))
        await it.press("2", "n")
        assert it.screen.query_one(LossPane).cursor is None
        assert "n N spike" not in it.screen.query_one(LossPane).hints
        it.screen.state.spikes.recorded = [Spike(40, 3.0, 1.4, 0.1), Spike(60, 3.0, 1.4, 0.1)]
        await it.tell(update(50, loss=1.4))
        await it.press("n")
        assert it.screen.query_one(LossPane).cursor == 40, "that of step 60 is not reached yet"


async def test_zoomed_chart_moves_to_the_spike() -> None:
    async with lab(steps=0) as it:
        await tell_spike(it)
        chart = it.screen.query_one(Chart)
        chart.show_range(1, 20)
        await it.press("2", "n")
        low, high = chart.shown
        assert low <= SPIKE <= high and high - low == pytest.approx(19)


async def test_without_spikes_the_keys_go_to_rows_that_stood_out(monkeypatch: pytest.MonkeyPatch) -> None:
    outliers_are(monkeypatch, 20, 60, 90)
    async with lab(steps=0) as it:
        await it.tell(*(update(step, loss=1.4 + 0.01 * (step % 3)) for step in range(1, N_STEPS + 1)))
        pane = it.screen.query_one(LossPane)
        cursors = []
        for key in ("2", "N", "N", "n"):
            await it.press(key)
            cursors.append(pane.cursor)
        assert cursors == [None, 60, 20, 60]
        assert "n N spike" in pane.hints, "once they are known"


async def test_keys_go_through_spikes_and_rows_that_stood_out_and_the_chart_names_these(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outliers_are(monkeypatch, 20, 70, 90)
    async with lab(steps=0) as it:
        await tell_spike(it)
        pane = it.screen.query_one(LossPane)
        seen: list[tuple[float | None, bool]] = []
        for key in ("2", "N", "n", "N", "N", "N"):
            await it.press(key)
            seen.append((pane.cursor, "row 3 of 16" in it.text("#chart")))
        assert seen[1:] == [(SPIKE, False), (70, True), (SPIKE, False), (20, True), (70, True)]
        assert not it.pilot.app._notifications, "no toast for each press"


def test_step_is_marked_with_its_highest_row_also_if_that_was_higher_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 3 shows example 8, which stood out most at step 50; at step 90 it still is the highest."""
    rows = [OutlierRow(50, 1, 8, 9.0, 1.4, 16), OutlierRow(90, 2, 8, 5.0, 1.4, 16), OutlierRow(90, 0, 7, 3.0, 1.4, 16)]
    monkeypatch.setattr(OutlierIndex, "read", lambda self, first: rows)
    found = MarkedSteps()._read(Path("no run"), [])
    assert {step: row.row for step, row in found.items()} == {50: 1, 90: 2}


def test_next_spike_goes_around() -> None:
    steps = [10, 20, 30]
    assert [next_step(steps, cursor, 1) for cursor in (None, 5, 10, 25, 30)] == [30, 10, 20, 30, 10]
    assert [next_step(steps, cursor, -1) for cursor in (None, 10, 15, 30, 99)] == [30, 30, 10, 20, 30]
