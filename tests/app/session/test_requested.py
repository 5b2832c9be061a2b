"""Requested: what is shown between a key and the trainer's answer."""

from tests.app.fake import update
from tui_lab.app.session.requested import Requested
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings

CONFIG = settings.load("reverse", ["optim.lr=0.002", "data.overfit=0"])
DOUBLE = cmd.Scale("optim.lr", 2.0)


def requested(*commands: cmd.Command, changes: tuple[ev.Changed, ...] = ()) -> Requested:
    requests = Requested()
    for command in commands:
        requests.sent(command, CONFIG, changes, 10)
    return requests


def changed(old: float, new: float) -> ev.Changed:
    return ev.Changed(step=10, key="optim.lr", old=old, new=new)


def test_relative_changes_add_up_before_any_is_confirmed() -> None:
    requests = requested(DOUBLE, DOUBLE, DOUBLE)
    assert requests.values == {"optim.lr": 0.016}
    assert requests.changes == [changed(0.002, 0.016)]
    assert requested(DOUBLE, DOUBLE, cmd.Undo()).values == {"optim.lr": 0.004}
    assert requested(cmd.Undo(), changes=(changed(0.001, 0.002),)).values == {"optim.lr": 0.001}


def test_requests_end_when_they_are_confirmed_one_by_one() -> None:
    requests = requested(DOUBLE, cmd.Set("data.overfit", 1), DOUBLE)
    requests.apply(changed(0.002, 0.004))
    assert requests.values == {"data.overfit": 1, "optim.lr": 0.008}
    requests.apply(changed(0.004, 0.008))
    assert requests.values == {}


def test_requests_end_with_a_warning_or_once_the_trainer_has_taken_them() -> None:
    for ending in (ev.Warned(step=10, message="no"), ev.Stopped(step=10, reason="done"), update(12)):
        requests = requested(DOUBLE)
        requests.apply(update(11))
        assert requests.values == {"optim.lr": 0.004}
        requests.apply(ending)
        assert requests.values == {}


def test_what_changes_nothing_or_is_refused_is_not_requested() -> None:
    commands = (cmd.Set("optim.lr", 0.002), cmd.Set("optim.lr", -1), cmd.Set("model.d_model", 8), cmd.Undo())
    assert requested(*commands, cmd.Evaluate()).values == {}
