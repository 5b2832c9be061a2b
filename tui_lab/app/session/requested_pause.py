"""The pause that was asked for and has not begun: it begins after a step, and a step can take minutes."""

from dataclasses import dataclass

from tui_lab.app.session.messages import PauseRequested, SessionMessage
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev

LOST_AFTER = 1000
"""Steps after which a pause that has not begun is forgotten; a fast run makes hundreds before its answer is read."""


@dataclass
class RequestedPause:
    """Call `sent` for every command and `apply` for every message.

    step: the step after which the run pauses; None if no pause was asked for. It may pause one step earlier, where the
    commands are taken before a step that the app has not heard of. by_steps: whether it follows a number of steps that
    the run was to make. outlives_app: whether the run pauses although this app ends: the user wants it, or it was
    another app that asked.
    """

    step: int | None = None
    by_steps: bool = False
    outlives_app: bool = False

    def is_ahead(self, phase: str) -> bool:
        """Return whether a run in this phase is still training, with a pause requested for a later step."""
        return phase in ("waiting", "running") and self.step is not None

    def is_next(self, phase: str) -> bool:
        """Return whether the pause takes effect as soon as possible, so that the pause key cancels it."""
        return self.is_ahead(phase) and not self.by_steps

    def sent(self, command: cmd.Command, step: int, *, paused: bool) -> None:
        """Note a command that was sent after `step` steps. paused: whether the run was paused then."""
        match command:
            case cmd.Pause():
                self.step = step + 1
                self.by_steps = False
                self.outlives_app = False
            case cmd.Step(n):
                first = step + (0 if paused else 1)
                self.step = max(first, self.step or 0) + n
                self.by_steps = True
                self.outlives_app = False
            case cmd.Resume():
                self.step = None

    def apply(self, message: SessionMessage) -> None:
        """End the request where an event answers it, or shows that it was lost; take over what all apps asked for."""
        if isinstance(message, PauseRequested):
            if self.step is None:
                self.outlives_app = True
            self.step = message.step
            self.by_steps = message.by_steps
        elif self.step is not None and self._is_answered(message, self.step):
            self.step = None

    def _is_answered(self, message: SessionMessage, step: int) -> bool:
        match message:
            case ev.Paused() | ev.Resumed():
                return message.step >= step - 1
            case ev.StepDone():
                return message.step > step + LOST_AFTER
            case _:
                return isinstance(message, ev.Stopped | ev.Failed)
