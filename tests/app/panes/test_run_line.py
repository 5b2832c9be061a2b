"""The line above the status line: the seek bar of a replay."""

import math

import pytest

from tests.app.fake import FakePlayback, evaluated, lab, ready, started, update
from tui_lab.app.panes.end_text import end_text, offered
from tui_lab.app.panes.key_hints import BETWEEN
from tui_lab.app.panes.seek_bar import CHANGE, CHECKPOINT, EVALUATION, POSITION, SeekBar, keys_of
from tui_lab.app.screens.notices import INTERRUPTED
from tui_lab.app.session.messages import Interrupted, Rewound, SessionFailed, SessionMessage
from tui_lab.app.session.source import Timeline
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev

ALL_KEYS = keys_of(lambda id: True)
CHANGED = ev.Changed(step=8, key="optim.lr", old=0.01, new=0.05)


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_seek_bar_shows_the_position_and_marks_where_a_click_goes_to_them(width: int) -> None:
    bar = SeekBar()
    timeline = Timeline(end=400, changes=(100,), evaluations=(200,), checkpoints=(50, 400))
    playback = FakePlayback(position=300, timeline=timeline)
    line = bar.text(playback, width, ALL_KEYS).plain
    assert len(line) <= width and "300/400" in line and "×1" in line
    cell = 400 / (line.rindex(CHECKPOINT) - line.index("━"))
    for sign, step in ((POSITION, 300), (CHANGE, 100), (EVALUATION, 200), (CHECKPOINT, 50)):
        assert bar.step_at(line.index(sign)) == pytest.approx(step, abs=cell if sign == POSITION else 0)
    assert bar.step_at(line.index("━")) == 0 and bar.step_at(line.rindex(CHECKPOINT)) == 400
    assert bar.step_at(0) is None and bar.step_at(len(line) - 1) is None
    assert ("f fork" in line) == (width >= 120)


def test_seek_bar_keeps_its_length_while_it_plays() -> None:
    bars = [
        SeekBar().text(FakePlayback(position=step, speed=speed), 100, ALL_KEYS).plain
        for step, speed in ((0, 1.0), (399, 0.25), (400, math.inf))
    ]
    ends = {max(line.rfind("─"), line.rfind(POSITION), line.rfind(EVALUATION)) for line in bars}
    assert len(ends) == 1


def test_seek_bar_keeps_its_length_when_a_key_goes() -> None:
    bar = SeekBar()
    playing = bar.text(FakePlayback(position=100), 120, ALL_KEYS).plain
    at_end = bar.text(FakePlayback(position=400), 120, ALL_KEYS[1:]).plain
    assert playing.index(" 100/400") == at_end.index(" 400/400")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_seek_bar_keeps_its_length_when_the_key_that_pauses_has_another_text(width: int) -> None:
    bar = SeekBar()
    playing = bar.text(FakePlayback(position=100), width, ["Space pause", *ALL_KEYS[1:]]).plain
    paused = bar.text(FakePlayback(position=100), width, ["Space play", *ALL_KEYS[1:]]).plain
    at_end = bar.text(FakePlayback(position=400), width, ["Space play again", *ALL_KEYS[1:]]).plain
    assert playing.index(" 100/400") == paused.index(" 100/400") == at_end.index(" 400/400")


async def test_panes_follow_a_replay_that_goes_back() -> None:
    async with lab() as it:
        it.source.role = "replay"
        it.source.playback = FakePlayback(position=30)
        await it.tell(CHANGED)
        ready = it.screen.state.ready
        started = it.screen.state.started
        assert ready is not None and started is not None
        assert "30/400" in it.text("#run-line") and "300" not in it.text("#run-line")
        it.source.playback.position = 400
        await it.tell()
        assert "Space play again" in it.text("#run-line") and "( ) seek" in it.text("#run-line")
        it.source.playback.position = 30
        await it.tell()
        assert "Space pause" in it.text("#run-line")
        it.source.playback.paused = True
        await it.tell()
        assert "Space play" in it.text("#run-line")
        it.source.playback.paused = False
        await it.press("3", "5", "2", "left")
        assert it.screen.loss_pane.cursor is not None
        column = it.text("#run-line").index(CHANGE)
        await it.pilot.click("#run-line", offset=(column, 0))
        assert it.source.playback.sought == [pytest.approx(100, abs=10)]

        await it.tell(Rewound(ready, (started, *(update(step) for step in range(1, 6)), evaluated(5))))
        assert "step 5 " in it.text("#status") and it.screen.loss_pane.cursor is None
        await it.press("5")
        log = it.text("#log")
        assert "step 5" in log and "optim.lr" not in log and "step 15" not in log
        await it.press("3")
        assert it.screen.batch_pane.loaded.shown_batch is not None and it.screen.batch_pane.loaded.shown_batch.step == 4


async def test_length_of_the_seek_bar_does_not_depend_on_how_the_replay_opened() -> None:
    async with lab(loaded=False, steps=0, size=(80, 24)) as it:
        it.source.role = "replay"
        playback = FakePlayback()
        it.source.playback = playback
        await it.tell()
        await it.tell(ready(), started(ready()), update(1))
        opened_at_once = SeekBar().text(playback, 80, ALL_KEYS).plain
        assert it.text("#run-line").index(" 0/400") == opened_at_once.index(" 0/400")


BEST = ev.Evaluated(step=15, val_loss=0.004, exact_match=1.0, perplexity=None, examples=8, best=True)
WORSE = ev.Evaluated(step=25, val_loss=0.5, exact_match=None, perplexity=7.5, examples=8, best=False, since_best=1)


@pytest.mark.parametrize(
    ("messages", "shown"),
    [
        ([BEST, ev.Stopped(step=30, reason="done")], ["done", "val 0.004 (best, step 15)", "match 100%", "r again"]),
        ([BEST, WORSE, ev.Stopped(step=30, reason="done")], ["val 0.5", "best 0.004, step 15", "perplexity 7.5"]),
        (
            [BEST, WORSE, ev.Stopped(step=30, reason="patience", restored=15)],
            ["stopped early", "val 0.004 (best, step 15, restored)", "exact match 100%"],
        ),
        ([ev.Stopped(step=30, reason="target")], ["reached the target loss", "f train on"]),
        ([update(31, 0.5), ev.Stopped(step=31, reason="stopped")], ["stopped", "loss 0.5, mean 0.07", "R compare"]),
        ([ev.Failed(step=30, message="loss is not finite")], ["failed: loss is not finite", "K diagnose", "5 see"]),
        ([SessionFailed("no such file\nat line 3")], ["failed: no such file", "K diagnose"]),
    ],
    ids=["done", "worse since", "patience", "target", "stopped", "failed", "session failed"],
)  # fmt: skip
def test_end_of_a_run_says_what_came_out_and_what_to_do_next(messages: list[SessionMessage], shown: list[str]) -> None:
    state = LabState()
    for message in (*(update(step) for step in range(1, 31)), *messages):
        state.apply(message)
    commands = offered(state, lambda id: id != "resume")
    line = end_text(state, commands, 200).plain
    assert [part for part in shown if part not in line] == []
    for width in (40, 80, 120):
        short = end_text(state, commands, width).plain
        assert len(short) <= max(width, line.index(BETWEEN)) and short.count(BETWEEN) >= (width >= 80)


async def test_end_line_stays_until_one_of_its_keys_acts() -> None:
    async with lab() as it:
        line = it.screen.query_one("#run-line")
        assert not line.display, "nothing while a run trains"
        await it.tell(BEST, ev.Stopped(step=30, reason="done"))
        assert "■ done · val 0.004" in it.text("#run-line") and "g generate" in it.text("#run-line")
        assert not it.pilot.app._notifications
        await it.press("3", "x", "5")
        assert line.display
        await it.press("g")
        assert not line.display


async def test_run_of_another_process_that_has_ended_can_be_resumed() -> None:
    async with lab() as it:
        it.source.role = "watching"
        await it.tell(Interrupted("process 3 exited"))
        assert [notice.title for notice in it.pilot.app._notifications] == [INTERRUPTED]
        line = it.text("#run-line")
        assert "interrupted" in line and "failed" not in line
        assert 0 < line.index("c resume") < line.index("r again")
        await it.tell(ready())
        assert not it.pilot.app._notifications


@pytest.mark.parametrize(("reason", "is_offered"), [("done", False), ("stopped", True)])
def test_followed_run_that_has_made_all_its_steps_is_not_offered_to_be_resumed(reason: str, is_offered: bool) -> None:
    state = LabState(phase="ended", ending=reason)
    commands = offered(state, lambda id: True)
    assert ("resume" in commands) == is_offered and "fork" in commands
