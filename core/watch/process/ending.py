"""How a watched script ended, and why nothing was recorded of it. Does not import torch."""

import signal
import sys
import traceback

from tui_lab.core import events as ev
from tui_lab.util.exit_codes import of_signal

OTHER_LIBRARIES = ("jax", "tensorflow", "mxnet")
LAUNCHERS = (
    "torch.distributed.run",
    "torch.distributed.launcher.api",
    "accelerate.commands.launch",
    "deepspeed.launcher.runner",
)
"""Modules that start a script in other processes."""
STOPPED = tuple(of_signal(number) for number in (signal.SIGINT, signal.SIGTERM))
"""Codes with which a script exits that handles such a signal itself."""
NO_ERRORS = (StopIteration, StopAsyncIteration, GeneratorExit)
"""Exceptions with which a loop ends as it should."""


class EndedBySignal(BaseException):
    """What `ending` gets where a signal ends the process. It is never raised. number: of the signal."""

    def __init__(self, number: int) -> None:
        self.name = signal.Signals(number).name
        super().__init__(f"{self.name} ended the script")


def ending(step: int, error: BaseException | None) -> ev.Stopped | ev.Failed:
    """Return the last event. error: what ended the script; one that exits with a code other than 0 has failed."""
    match error:
        case None | SystemExit(code=None | 0):
            return ev.Stopped(step=step, reason="done")
        case KeyboardInterrupt() | EndedBySignal():  # By the user: Ctrl+C, StopRequested, kill.
            return ev.Stopped(step=step, reason="stopped")
        case SystemExit(code=code) if code in STOPPED:
            return ev.Stopped(step=step, reason="stopped")
        case SystemExit():
            return ev.Failed(step=step, message=_exit_message(error.code))
        case _:
            details = "".join(traceback.format_exception(error))
            return ev.Failed(step=step, message=f"{type(error).__name__}: {error}", details=details)


def _exit_message(code: object) -> str:
    """Return what an exit with `code` means: Python prints anything but a number, and exits with code 1."""
    return f"the script ended with exit code {code}" if isinstance(code, int) else f"the script ended: {code}"


def why_no_steps(end: ev.Stopped | ev.Failed, *, has_optimizer: bool) -> str:
    """Return why no step was recorded of a script that ended so.

    has_optimizer: whether the step of an optimizer began.
    """
    if has_optimizer:
        return "nothing was recorded: the script ended in its first optimizer step"
    if isinstance(end, ev.Failed):
        return "nothing was recorded: the script failed before its first optimizer step"
    if end.reason == "stopped":
        return "nothing was recorded: the script was stopped before its first optimizer step"
    if any(name in sys.modules for name in LAUNCHERS):
        advice = "use: torchrun … -m tui_lab watch --headless SCRIPT"
        return f"nothing was recorded: the script ran in other processes; {advice}"
    if any(name in sys.modules for name in OTHER_LIBRARIES):
        return "nothing was recorded: the script uses a library other than torch, and only torch can be watched"
    return (
        "nothing was recorded: the script made no step of a torch optimizer; a loop without one can record its steps "
        "itself: run = tui_lab.watch(), then run.step(loss=…)"
    )


def last_events(end: ev.Stopped | ev.Failed, why_no_steps: str) -> list[ev.Event]:
    """Return the events at the end of a run. why_no_steps: empty if it has steps; a Failed event already says why."""
    if not why_no_steps or isinstance(end, ev.Failed):
        return [end]
    return [ev.Warned(step=end.step, message=why_no_steps), end]
