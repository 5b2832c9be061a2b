"""The pause that was asked for and has not begun."""

import pytest

from tests.app.fake import update
from tui_lab.app.session.messages import PauseRequested
from tui_lab.app.session.requested_pause import LOST_AFTER, RequestedPause
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev


def pause_after(*commands: cmd.Command, paused: bool = False) -> RequestedPause:
    pause = RequestedPause()
    for command in commands:
        pause.sent(command, 10, paused=paused)
    return pause


@pytest.mark.parametrize(
    ("commands", "paused", "step"),
    [
        ((cmd.Pause(),), False, 11),
        ((cmd.Step(3),), True, 13),
        ((cmd.Step(3),), False, 14),
        ((cmd.Step(3), cmd.Step(10)), True, 23),
        ((cmd.Pause(), cmd.Resume()), False, None),
        ((cmd.Save(), cmd.Scale("optim.lr", 2.0)), False, None),
    ],
)
def test_step_after_which_the_run_pauses(commands: tuple[cmd.Command, ...], paused: bool, step: int | None) -> None:
    assert pause_after(*commands, paused=paused).step == step


@pytest.mark.parametrize(
    "ending",
    [
        ev.Paused(step=10),
        ev.Paused(step=11),
        ev.Resumed(step=12),
        ev.Stopped(step=11, reason="done"),
        ev.Failed(step=11, message="no"),
        update(12 + LOST_AFTER),
    ],
)
def test_request_ends_when_it_is_answered_or_lost(ending: ev.Event) -> None:
    pause = pause_after(cmd.Pause())
    for event in (update(11), update(200), ev.Saved(step=11, path="a"), ev.Warned(step=0, message="slow")):
        pause.apply(event)
    assert pause.step == 11
    pause.apply(ending)
    assert pause.step is None


def test_resuming_for_some_steps_does_not_end_it() -> None:
    pause = pause_after(cmd.Step(10), paused=True)
    for event in (ev.Resumed(step=10), update(11)):
        pause.apply(event)
    assert pause.step == 20


def test_pause_of_another_app_stays_when_this_one_ends() -> None:
    own = pause_after(cmd.Pause())
    others = pause_after()
    for pause in (own, others):
        pause.apply(PauseRequested(1, by_steps=False))
    assert (own.step, own.outlives_app, others.step, others.outlives_app) == (1, False, 1, True)
    others.sent(cmd.Resume(), 0, paused=False)
    others.sent(cmd.Pause(), 0, paused=False)
    assert not others.outlives_app, "it was canceled and is now of this app"
