"""PaintScheduler: which panes are drawn at which tick, with clocks turned by hand."""

from dataclasses import dataclass

import pytest

from tui_lab.app.screens.paint_scheduler import (
    MAX_PAUSE,
    MIN_PAUSE,
    PAINT_SHARE,
    PAINT_SHARE_OF_SLOW_MODEL,
    SECONDS_AWAKE,
    SECONDS_BETWEEN_IDLE_TICKS,
    SECONDS_BETWEEN_IDLE_TICKS_OF_SLOW_MODEL,
    SECONDS_BETWEEN_TICKS,
    SECONDS_OF_SLOW_STEP,
    SECONDS_TO_SETTLE,
    SECONDS_WHILE_TYPING,
    Frame,
    PaintScheduler,
)


@dataclass
class FakePane:
    name: str
    display: bool = True


class Setup:
    """A scheduler of two panes after its first frame, at `now` = 0."""

    def __init__(self) -> None:
        self.panes = [FakePane("config"), FakePane("loss")]
        self.cpu_seconds = 0.0
        self.scheduler = PaintScheduler(self.panes, cpu_time=lambda: self.cpu_seconds)
        assert self.scheduler.due(0.0) == Frame(self.panes, complete=True, new=True)


def test_new_frame_draws_every_visible_pane() -> None:
    setup = Setup()
    setup.panes[0].display = False
    assert setup.scheduler.due(MIN_PAUSE) == Frame([setup.panes[1]], complete=True, new=True)


def test_request_draws_the_state_that_is_shown() -> None:
    setup = Setup()
    setup.scheduler.request()
    assert setup.scheduler.due(0.1) == Frame(setup.panes, complete=True)
    assert setup.scheduler.due(0.1) == Frame([])


def test_new_frame_comes_once_the_model_could_answer_a_request() -> None:
    setup = Setup()
    setup.cpu_seconds = 100.0
    setup.scheduler.request()
    setup.scheduler.due(0.1)
    assert not setup.scheduler.due(0.1 + SECONDS_TO_SETTLE - 0.01).new
    assert setup.scheduler.due(0.1 + SECONDS_TO_SETTLE).new


def test_news_is_shown_once_the_frame_is_old_enough() -> None:
    setup = Setup()
    setup.scheduler.news(0.4)
    setup.scheduler.news(0.3)
    assert not setup.scheduler.due(0.2).new
    assert setup.scheduler.due(0.3).new
    assert not setup.scheduler.due(0.7).new
    setup.scheduler.news()
    assert setup.scheduler.due(0.7).new


@pytest.mark.parametrize(
    ("seconds_a_step", "cpu_seconds", "pause"),
    [
        (0.001, 0.0, MIN_PAUSE),
        (0.001, 0.05, 0.05 / PAINT_SHARE),
        (SECONDS_OF_SLOW_STEP, 0.02, 0.02 / PAINT_SHARE_OF_SLOW_MODEL),
        (0.001, 100.0, MAX_PAUSE),
    ],
)
def test_pause_between_new_frames_follows_the_cpu_time_of_the_last_one(
    seconds_a_step: float, cpu_seconds: float, pause: float
) -> None:
    setup = Setup()
    setup.scheduler.seconds_a_step = seconds_a_step
    setup.cpu_seconds = cpu_seconds
    assert not setup.scheduler.due(pause - 0.01).new
    assert setup.scheduler.due(pause + 0.01).new


def test_typing_delays_requests_and_new_frames() -> None:
    setup = Setup()
    setup.scheduler.request()
    setup.scheduler.news()
    for tenths in range(1, int(10 * SECONDS_WHILE_TYPING)):
        setup.scheduler.typed(tenths / 10)
        assert setup.scheduler.due(tenths / 10) == Frame([])
    setup.scheduler.typed(SECONDS_WHILE_TYPING)
    assert setup.scheduler.due(SECONDS_WHILE_TYPING).new


def test_growing_pane_is_drawn_between_frames_if_visible() -> None:
    setup = Setup()
    growing = setup.panes[1]
    assert setup.scheduler.due(0.1, growing).panes == [growing]
    assert setup.scheduler.due(0.2, growing).panes == [growing]
    setup.scheduler.typed(0.2)
    assert setup.scheduler.due(0.3, growing).panes == []
    growing.display = False
    assert setup.scheduler.due(0.1, growing).panes == []


@pytest.mark.parametrize(
    ("seconds_a_step", "idle"),
    [(0.001, SECONDS_BETWEEN_IDLE_TICKS), (SECONDS_OF_SLOW_STEP, SECONDS_BETWEEN_IDLE_TICKS_OF_SLOW_MODEL)],
)
def test_ticks_are_rare_while_there_is_nothing_to_show(seconds_a_step: float, idle: float) -> None:
    scheduler = Setup().scheduler
    scheduler.seconds_a_step = seconds_a_step
    assert scheduler.seconds_to_next_tick(0.0) == idle
    assert scheduler.seconds_to_next_tick(0.0, generating=True) == SECONDS_BETWEEN_TICKS
    scheduler.news(0.3)
    assert scheduler.seconds_to_next_tick(0.0) == 0.3
    assert scheduler.seconds_to_next_tick(0.25) == SECONDS_BETWEEN_TICKS
    scheduler.key_pressed(1.0)
    assert scheduler.due(1.0).complete
    assert scheduler.seconds_to_next_tick(1.0 + SECONDS_AWAKE - 0.1) == SECONDS_BETWEEN_TICKS
    assert scheduler.seconds_to_next_tick(1.0 + SECONDS_AWAKE) == idle
