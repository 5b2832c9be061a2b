"""End the app, however it ends: every run is stopped and saved, and the resume command is shown."""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from tui_lab.core import commands as cmd
from tui_lab.core.runs import folder as runs
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.core.training.step_time import StepTime
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import of_signal

if TYPE_CHECKING:
    from tui_lab.app.session.source import Source
    from tui_lab.app.session.state import LabState

GRACE_SECONDS = 30.0
"""For the step, evaluation or checkpoint under way when training is asked to stop."""
SECONDS_IF_UNOPENED = 2.0
"""For a run that is being opened, which would leave a folder."""
STEPS_OF_GRACE = 10
NOT_OPEN = "the run was not open yet, so nothing was trained"
NO_STEP = "no step was made, so the run was deleted"
SECONDS_TO_COMPILE = 180.0
"""torch.compile cannot be interrupted, and takes a minute or more on a busy machine."""
SECONDS_TO_CLOSE = 10.0
"""For the app to restore the terminal after everything is saved; a terminal that is gone can block that forever."""
TRAINING = "training"
"""The name of the threads that train."""
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class OpenLab(Protocol):
    """A lab whose source has been started."""

    source: "Source"
    state: "LabState"

    resumed_to_detach: bool

    @property
    def path(self) -> str | None:
        """The folder of the run that trains, once it is open; None for a replay."""
        ...


def grace(step_time: StepTime, least: float = GRACE_SECONDS) -> float:
    """Return how many seconds to wait for training to stop."""
    steps = SECONDS_TO_COMPILE if step_time.is_compiling else STEPS_OF_GRACE * (step_time.seconds or 0.0)
    return max(least, steps)


def latest_step(path: str) -> int | None:
    """Return the step of a run's latest checkpoint; None if it has none."""
    try:
        checkpoint = runs.Run(Path(path)).latest()
    except (RunError, OSError):
        return None
    return step_of(checkpoint)


def saved_line(path: str) -> str:
    """Say what of a run that has stopped is saved, and how to resume it."""
    if not Path(path).is_dir():
        return f"the folder of the run was removed: {path}"
    step = latest_step(path)
    if step is None:
        return f"no checkpoint was saved: {path}"
    if _is_done(path):
        return f"all {step:,} steps are made and saved. For more steps: {_resume_commands(path, ' --steps N')}"
    return f"saved at step {step:,}. Resume with: {_resume_commands(path)}"


def _resume_commands(path: str, options: str = "") -> str:
    """Return how to resume a run in the app, which the user has just left, and without it."""
    arguments = f"--resume {shlex.quote(path)}{options}"
    return f"tui-lab app {arguments} (without the app: tui-lab run {arguments})"


def _is_done(path: str) -> bool:
    """Return whether a run has made all its steps."""
    summary = runs.Run(Path(path)).summary()
    return summary is not None and summary.reason == "done"


def followed_line(lab: OpenLab) -> str | None:
    """Say what the run of another process does after the app has left it, and how to go on; None for other runs."""
    run = lab.state.ready or lab.state.waiting
    if run is None or lab.source.role not in ("steering", "watching"):
        return None
    step = f"at step {lab.state.step:,}"
    path = shlex.quote(run.path)
    if lab.state.over:
        return f"the run ended {step}. See it with: tui-lab app {path}" if lab.state.is_script else saved_line(run.path)
    if lab.state.phase == "paused" and not lab.resumed_to_detach:
        return f"the run stays paused {step}. Follow and resume it with: tui-lab app {path}"
    if lab.state.requested_pause.is_ahead(lab.state.phase) and not lab.resumed_to_detach:
        return f"the run will pause as requested. Follow and resume it with: tui-lab app {path}"
    if lab.state.phase == "waiting":
        return f"the script continues; it has not made an optimizer step yet. Follow it again with: tui-lab app {path}"
    return f"the run continues {step}. Follow it again with: tui-lab app {path}"


def cancel_pause(lab: OpenLab) -> None:
    """Let the run of another process train on if it was to pause for a user whose terminal is gone."""
    pause = lab.state.requested_pause
    if lab.source.role == "steering" and pause.is_ahead(lab.state.phase) and not pause.outlives_app:
        lab.source.send(cmd.Resume())
        pause.sent(cmd.Resume(), lab.state.step, paused=False)
        lab.resumed_to_detach = True


def abandoned_line(path: str | None, seconds: float) -> str:
    """Say that training did not stop within `seconds`, and what of it is saved."""
    step = None if path is None else latest_step(path)
    checkpoint = (
        "It had no checkpoint."
        if step is None
        else f"Last checkpoint: step {step:,}. Resume with: {_resume_commands(path or '')}"
    )
    return f"training did not stop within {seconds:,.0f} s, so tui-lab stopped waiting for it. {checkpoint}"


def is_unopened(lab: OpenLab) -> bool:
    """Return whether a run was to train here and is not open, so that nothing is lost if it is abandoned."""
    from tui_lab.app.session.state import NO_RUN

    is_opening = lab.source.role == "training" and lab.path is None and not lab.state.over
    return is_opening and lab.state.doing != NO_RUN


def unkept_line(lab: OpenLab) -> str | None:
    """Say that nothing is left of a run that was to train here; None for other runs."""
    if is_unopened(lab):
        return NOT_OPEN
    is_gone = lab.source.role == "training" and lab.path is not None and not Path(lab.path).is_dir()
    return NO_STEP if is_gone else None


def left_line(lab: OpenLab) -> str | None:
    """Say how to go on with the run of a lab that was closed, or that nothing is left of it; None for a replay."""
    return unkept_line(lab) or (followed_line(lab) if lab.path is None else saved_line(lab.path))


def save_all(labs: list[OpenLab]) -> list[str]:
    """Stop and save every run; return a line about each that had started, and about each error."""
    lines = [_line_of(act, lab) for act in (cancel_pause, _request_end, _end) for lab in labs]
    return [line for line in lines if line is not None]


def _line_of(act: Callable[[OpenLab], str | None], lab: OpenLab) -> str | None:
    """Return what `act` returns, or the error of it: the other runs are saved all the same."""
    try:
        return act(lab)
    except Exception as error:
        return f"{lab.path or 'a run'}: {type(error).__name__}: {error}"


def _request_end(lab: OpenLab) -> None:
    lab.source.close()


def _end(lab: OpenLab) -> str | None:
    """Wait until the run has ended; return the line about it."""
    seconds = SECONDS_IF_UNOPENED if is_unopened(lab) else grace(lab.state.step_time)
    if not lab.source.join(seconds) and not is_unopened(lab):
        return abandoned_line(lab.path, seconds)
    return left_line(lab)


def print_lines(lines: list[str]) -> None:
    """Print to stderr, if there still is one."""
    for line in lines:
        try:
            sys.__stderr__.write(f"tui-lab: {printable(line)}\n")  # type: ignore[union-attr]
            sys.__stderr__.flush()  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            return


def is_training() -> bool:
    """Return whether a thread that was abandoned still trains or compiles."""
    return any(thread.name == TRAINING and thread.is_alive() for thread in threading.enumerate())


def end_process(code: int) -> None:
    """End the process without cleaning up: Python would free what a thread that trains or compiles uses, and crash."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


class EndingSignals:
    """On SIGTERM and SIGHUP save what trains, then end the app; end the process if the terminal is gone."""

    def __init__(self, labs: Callable[[], list[OpenLab]], exit_app: Callable[[], None]) -> None:
        self._labs = labs
        self._exit_app = exit_app
        self._app_ended = threading.Event()
        self.number = 0
        """Of the first signal that was received."""

    def listen(self) -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, self._handle)

    def app_ended(self) -> None:
        """Note that the app has ended by itself."""
        self._app_ended.set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number = number
            # In another thread: this one may be blocked by the terminal forever.
            threading.Thread(target=self._end, name="shutdown", daemon=True).start()

    def _end(self) -> None:
        try:
            try:
                save_all(self._labs())
            finally:
                self._exit_app()
        finally:
            if not self._app_ended.wait(SECONDS_TO_CLOSE):
                os._exit(of_signal(self.number))
