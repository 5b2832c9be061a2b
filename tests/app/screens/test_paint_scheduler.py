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
    SECONDS_BETWEEN_TICKS,
    SECONDS_OF_SLOW_STEP,
    SECONDS_TO_SETTLE,
    SECONDS_WHILE_TYPING,
    PaintScheduler,
)


@dataclass
class FakePane:
    name: str
    display: bool = True


class Setup:
    """A scheduler of two panes after its first complete frame, at `now` = 0."""

    def __init__(self) -> None:
        self.panes = [FakePane("config"), FakePane("loss")]
        self.cpu_seconds = 0.0
        self.scheduler = PaintScheduler(self.panes, cpu_time=lambda: self.cpu_seconds)
        first = self.scheduler.due(0.0)
        assert first.complete and first.panes == self.panes

    def start_round(self) -> float:
        """Start a round of drawing that draws both panes; return the time of its start."""
        now = 1000.0
        assert self.scheduler.due(now).panes == []
        assert [self.scheduler.due(now).panes for _ in self.panes] == [[self.panes[1]], [self.panes[0]]]
        return now


def test_request_draws_every_visible_pane_at_once() -> None:
    setup = Setup()
    setup.panes[0].display = False
    setup.scheduler.request()
    frame = setup.scheduler.due(0.1)
    assert frame.complete and frame.panes == [setup.panes[1]]
    assert not setup.scheduler.due(0.1).complete


def test_round_after_a_request_starts_once_the_panes_have_settled() -> None:
    setup = Setup()
    setup.scheduler.request()
    assert setup.scheduler.due(10.0).complete
    assert setup.scheduler.due(10.0 + SECONDS_TO_SETTLE - 0.01).panes == []
    setup.scheduler.due(10.0 + SECONDS_TO_SETTLE)
    assert setup.scheduler.due(10.0 + SECONDS_TO_SETTLE).panes == [setup.panes[1]]


@pytest.mark.parametrize(
    ("seconds_a_step", "cpu_seconds", "pause"),
    [
        (0.001, 0.0, MIN_PAUSE),
        (0.001, 0.1, 0.1 / PAINT_SHARE),
        (SECONDS_OF_SLOW_STEP, 0.03, 0.03 / PAINT_SHARE_OF_SLOW_MODEL),
        (0.001, 100.0, MAX_PAUSE),
    ],
)
def test_pause_between_rounds_follows_the_cpu_time_of_the_last_one(
    seconds_a_step: float, cpu_seconds: float, pause: float
) -> None:
    setup = Setup()
    setup.scheduler.seconds_a_step = seconds_a_step
    started = setup.start_round()
    setup.cpu_seconds = cpu_seconds
    assert setup.scheduler.due(started + pause - 0.01).panes == []
    setup.scheduler.due(started + pause + 0.01)
    assert setup.scheduler.due(started + pause + 0.01).panes == [setup.panes[1]]


def test_typing_delays_requests_and_rounds() -> None:
    setup = Setup()
    started = setup.start_round()
    setup.scheduler.request()
    for tenths in range(1, int(10 * SECONDS_WHILE_TYPING)):
        setup.scheduler.typed(started + tenths / 10)
        assert setup.scheduler.due(started + tenths / 10).panes == []
    assert setup.scheduler.due(started + SECONDS_WHILE_TYPING + MIN_PAUSE).complete


def test_typing_does_not_stop_drawing_for_ever() -> None:
    setup = Setup()
    now = setup.start_round() + SECONDS_WHILE_TYPING
    setup.scheduler.typed(now)
    setup.scheduler.due(now)
    assert setup.scheduler.due(now).panes == [setup.panes[1]]


def test_growing_pane_is_drawn_between_rounds_if_visible() -> None:
    setup = Setup()
    started = setup.start_round()
    growing = setup.panes[1]
    assert setup.scheduler.due(started + 0.1, growing).panes == [growing]
    growing.display = False
    assert setup.scheduler.due(started + 0.1, growing).panes == []


def test_ticks_are_rare_only_while_a_slow_model_has_nothing_to_show() -> None:
    setup = Setup()
    scheduler = setup.scheduler
    now = setup.start_round()
    assert scheduler.seconds_to_next_tick(now) == SECONDS_BETWEEN_TICKS
    scheduler.seconds_a_step = SECONDS_OF_SLOW_STEP
    assert scheduler.seconds_to_next_tick(now) == SECONDS_BETWEEN_IDLE_TICKS
    assert scheduler.seconds_to_next_tick(now, generating=True) == SECONDS_BETWEEN_TICKS
    scheduler.key_pressed(now)
    assert scheduler.due(now).complete
    assert scheduler.seconds_to_next_tick(now + SECONDS_AWAKE - 0.1) == SECONDS_BETWEEN_TICKS
    assert scheduler.seconds_to_next_tick(now + SECONDS_AWAKE) == SECONDS_BETWEEN_IDLE_TICKS
