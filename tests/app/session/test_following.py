"""Following a run of our trainer in another process: where it is, and what its process printed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.app.session.helpers import collect
from tests.core.recorded import STARTED, recorded, update
from tui_lab.app.panes.events import log_line
from tui_lab.app.session.following import REMOVED, Following
from tui_lab.app.session.messages import Printed, Ready, SessionFailed, SessionMessage
from tui_lab.app.session.state import LabState
from tui_lab.app.shutdown import saved_line
from tui_lab.core import events as ev
from tui_lab.core.runs import lock
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.run_files import OUTPUT
from tui_lab.runs.event_text import event_text, step_text

RESUMED = replace(STARTED, step=27, resumed=True)
CHANGED = ev.Changed(step=30, key="optim.lr", old=0.002, new=0.004)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """A run that was resumed at step 27, and made 34 steps."""
    steps = [update(step) for step in range(28, 35)]
    run = recorded(tmp_path / "run", [STARTED, ev.Stopped(step=27, reason="stopped"), RESUMED, CHANGED, *steps])
    held = lock.take(run.path)
    yield run
    held.release()


def opened(run: Run) -> list[SessionMessage]:
    holder = lock.in_use(run.path)
    assert holder is not None
    following = Following(str(run.path), holder)
    following.start()
    messages = collect(following, lambda message: isinstance(message, Printed))
    following.close()
    following.join()
    return messages


def test_process_that_has_ended_is_not_said_to_train(run: Run) -> None:
    holder = lock.in_use(run.path)
    assert holder is not None
    following = Following(str(run.path), holder)
    assert str(holder.pid) in following.status_note()
    following.start()
    collect(following, lambda message: isinstance(message, Ready))
    list(run.record([ev.Stopped(step=34, reason="stopped")]))
    collect(following, lambda message: isinstance(message, ev.Stopped))
    following.close()
    following.join()
    assert following.status_note() == ""


def test_run_whose_process_removed_it_is_not_said_to_be_resumed(run: Run) -> None:
    holder = lock.in_use(run.path)
    assert holder is not None
    following = Following(str(run.path), holder)
    following.start()
    collect(following, lambda message: isinstance(message, Ready))
    run.path.rename(run.path.with_name("removed"))
    messages = collect(following, lambda message: isinstance(message, SessionFailed))
    following.close()
    following.join()
    assert messages[-1] == SessionFailed(REMOVED)
    assert str(run.path) in saved_line(str(run.path)) and "removed" in saved_line(str(run.path))


@pytest.mark.parametrize("is_paused", [False, True])
def test_run_in_progress_is_at_its_step_and_was_resumed_where_it_was(run: Run, is_paused: bool) -> None:
    list(run.record([ev.Paused(step=34)] if is_paused else []))
    (run.path / OUTPUT).write_text("a print of the model\n")
    state = LabState()
    messages = opened(run)
    for message in messages:
        state.apply(message)
    assert (state.phase, state.step) == ("paused" if is_paused else "running", 34)
    [ready] = [message for message in messages if isinstance(message, Ready)]
    lines = [line for event in ready.past if (line := log_line(event))]
    assert any("resumed at step 27" in line for line in lines)
    assert ("paused" in lines[-1]) == is_paused


def test_events_that_the_process_printed_are_not_shown_again(run: Run) -> None:
    printed = [event_text(RESUMED), step_text(update(28)), "a print of the model", event_text(CHANGED)]
    (run.path / OUTPUT).write_text("".join(f"{line}\n" for line in printed))
    [output] = [message for message in opened(run) if isinstance(message, Printed)]
    assert output.lines == ("a print of the model",)
