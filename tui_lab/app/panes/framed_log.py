"""The messages that wait to be logged until the panes show their step."""

from collections import deque
from typing import Protocol

from tui_lab.app.session.messages import RecordedPause, Rewound, SessionMessage, SpikeSeen
from tui_lab.core import events as ev
from tui_lab.core.runs.before_nonfinite import LAST_STEPS


class Note(Protocol):
    """Log a message. is_replayed: it happened earlier."""

    def __call__(self, message: SessionMessage, *, is_replayed: bool) -> object: ...


class FramedLog:
    """`note` logs a message."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._is_replay = False
        self._waiting: list[SessionMessage] = []
        self._steps: deque[ev.StepDone] = deque(maxlen=LAST_STEPS)
        """They are passed on only before a step that is not finite, since they are many and have no line."""

    def keep(self, message: SessionMessage, *, is_replay: bool) -> None:
        """Keep a message for its frame; a replay's own pauses are not events of the run."""
        self._is_replay = is_replay
        if isinstance(message, Rewound):
            self._waiting.clear()
            self._steps.clear()
        if isinstance(message, ev.StepDone):
            self._steps.append(message)
        if isinstance(message, ev.NonFinite):
            self._waiting += self._steps
            self._steps.clear()
        is_own_pause = is_replay and isinstance(message, ev.Paused | ev.Resumed)
        if not isinstance(message, ev.StepDone) and not is_own_pause:
            self._waiting.append(message)

    def log_until(self, step: int | None) -> None:
        """Log the messages that wait, up to those of `step`; all of them if it is None."""
        n_due = 0
        for message in self._waiting:
            if step is not None and _step_of(message) > step:
                break
            self._note(message, is_replayed=self._is_replay)
            n_due += 1
        del self._waiting[:n_due]


def _step_of(message: SessionMessage) -> int:
    """Return the step of a message; 0 for one that does not wait for any."""
    match message:
        case SpikeSeen(spike):
            return spike.step
        case RecordedPause(event):
            return event.step
        case ev.Event():
            return message.step
        case _:
            return 0
