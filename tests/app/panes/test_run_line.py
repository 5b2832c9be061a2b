"""The line above the status line: the seek bar of a replay."""

import math

import pytest

from tests.app.fake import FakePlayback, evaluated, lab, update
from tui_lab.app.panes.seek_bar import CHANGE, EVALUATION, KEYS, POSITION, SeekBar
from tui_lab.app.session.messages import Rewound
from tui_lab.app.session.source import Timeline
from tui_lab.core import events as ev

CHANGED = ev.Changed(step=8, key="optim.lr", old=0.01, new=0.05)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_seek_bar_shows_the_position_and_marks_where_a_click_goes_to_them(width: int) -> None:
    bar = SeekBar()
    playback = FakePlayback(position=300, timeline=Timeline(end=400, changes=(100,), evaluations=(200,)))
    line = bar.text(playback, width).plain
    assert len(line) <= width and "300/400" in line and "×1" in line
    cell = 400 / (line.rindex("─") - line.index("━"))
    for sign, step in ((POSITION, 300), (CHANGE, 100), (EVALUATION, 200)):
        assert bar.step_at(line.index(sign)) == pytest.approx(step, abs=cell)
    assert bar.step_at(line.index("━")) == 0 and bar.step_at(line.rindex("─")) == 400
    assert bar.step_at(0) is None and bar.step_at(len(line) - 1) is None
    assert (KEYS[-1] in line) == (width >= 120)


def test_seek_bar_keeps_its_length_while_it_plays() -> None:
    bars = [SeekBar().text(FakePlayback(position=step, speed=speed), 100).plain for step, speed in
            ((0, 1.0), (399, 0.25), (400, math.inf))]  # fmt: skip
    ends = {max(line.rfind("─"), line.rfind(POSITION), line.rfind(EVALUATION)) for line in bars}
    assert len(ends) == 1


async def test_panes_follow_a_replay_that_goes_back() -> None:
    async with lab() as it:
        it.source.role = "replay"
        it.source.playback = FakePlayback(position=30)
        await it.tell(CHANGED)
        ready = it.screen.state.ready
        started = it.screen.state.started
        assert ready is not None and started is not None
        assert "30/400" in it.text("#run-line") and "300" not in it.text("#run-line")
        await it.press("3", "5", "2", "left")
        assert it.screen.loss_pane.cursor is not None
        column = it.text("#run-line").index(CHANGE)
        await it.pilot.click("#run-line", offset=(column, 0))
        assert it.source.playback.sought == [pytest.approx(100, abs=10)]

        await it.tell(Rewound(ready, (started, *(update(step) for step in range(1, 6)), evaluated(5))))
        assert "step 5/" in it.text("#status") and it.screen.loss_pane.cursor is None
        await it.press("5")
        log = it.text("#log")
        assert "step 5" in log and "optim.lr" not in log and "step 15" not in log
        await it.press("3")
        assert it.screen.batch_pane.shown_batch is not None and it.screen.batch_pane.shown_batch.step == 4


async def test_a_run_that_trains_has_no_seek_bar() -> None:
    async with lab() as it:
        assert not it.screen.query_one("#run-line").display
