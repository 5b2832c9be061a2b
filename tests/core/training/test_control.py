"""The trainer's control: the order of commands, pausing, single steps, and which changes Undo reverts."""

from tests.core.recorded import script_config
from tests.core.tiny import tiny
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training.control import TrainControl
from tui_lab.core.training.distributed import SINGLE_PROCESS


def control_with(*commands: cmd.Command) -> TrainControl:
    control = TrainControl()
    for command in commands:
        control.commands.put(command)
    control.poll(SINGLE_PROCESS)
    return control


def change(key: str, old: object, new: object) -> ev.Changed:
    return ev.Changed(step=1, key=key, old=old, new=new)


def test_commands_are_taken_in_order() -> None:
    control = control_with(cmd.Resume(), cmd.Pause())
    assert [control.next_command() for _ in range(3)] == [cmd.Resume(), cmd.Pause(), None]


def test_pause_that_was_taken_back_is_dropped() -> None:
    control = control_with(cmd.Pause(), cmd.Evaluate(), cmd.Resume(), cmd.Pause())
    assert [control.next_command() for _ in range(3)] == [cmd.Evaluate(), cmd.Resume(), cmd.Pause()]


def test_commands_after_a_stop_are_not_taken() -> None:
    control = control_with(cmd.Stop(), cmd.Evaluate())
    assert control.stop_is_pending()
    assert control.next_command() == cmd.Stop()
    control.request_stop()
    assert control.next_command() is None


def test_pause_and_resume_report_whether_anything_changed() -> None:
    control = TrainControl()
    assert [control.pause(), control.pause(), control.resume(), control.resume()] == [True, False, True, False]


def test_single_steps_end_with_a_pause() -> None:
    control = TrainControl()
    control.resume(steps=2)
    control.count_step()
    assert not control.has_pending
    control.count_step()
    assert control.next_command() == cmd.Pause()


def test_single_steps_asked_for_several_times_accumulate() -> None:
    control = TrainControl()
    control.resume(steps=2)
    control.resume(steps=1)
    for _ in range(3):
        assert not control.has_pending
        control.count_step()
    assert control.next_command() == cmd.Pause()


def test_resume_cancels_the_remaining_single_steps() -> None:
    control = TrainControl()
    control.resume(steps=2)
    control.resume()
    assert control.steps_left == 0


def test_pause_cancels_the_remaining_single_steps() -> None:
    control = TrainControl()
    control.resume(steps=2)
    control.pause()
    control.resume()
    control.count_step()
    control.count_step()
    assert not control.has_pending


def test_undo_stack_has_the_live_changes_that_still_hold() -> None:
    first = change("optim.lr", 0.1, 0.2)
    changes = [first, change("model.d_model", 8, 16), change("optim.lr", 0.2, 0.4), change("optim.lr", 0.4, 0.2)]
    assert cmd.undo_stack(changes, tiny()) == [first]


def test_undo_stack_of_a_script_has_its_own_live_settings() -> None:
    first = change("optim.lr_factor", 1.0, 2.0)
    second = change("model.dropout", 0.1, 0.2)
    changes = [first, change("optim.lr_factor", 2.0, 4.0), change("optim.lr_factor", 4.0, 2.0), second]
    assert cmd.undo_stack(changes, script_config()) == [first, second]


def test_undone_change_leaves_the_stack() -> None:
    control = TrainControl(undo_stack=[change("optim.lr", 0.1, 0.2)])
    control.record_change(change("optim.lr", 0.2, 0.1), undone=True)
    assert control.undo_stack == []
