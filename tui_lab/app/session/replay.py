"""Play a recorded run back at a chosen speed."""

import math
import queue
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.following import open_ready
from tui_lab.app.session.messages import Interrupted, SessionFailed, SessionMessage
from tui_lab.app.session.output_tail import OutputTail
from tui_lab.app.session.saved_weights import SavedWeights
from tui_lab.app.session.source import Playback, Role
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import ConfigError, DataError, RunError

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, math.inf)
"""At infinite speed the rest comes at once, from the downsampled log."""
LEFT_OUT = ("paused", "resumed")
"""Kinds of events that a replay does not repeat: it has its own pause."""
NEVER_STEPPED = "this script never made an optimizer step, so there is nothing to show but what it printed"
SECONDS_BETWEEN_CHECKS = 0.5
"""How often a reader that waits for room looks whether the replay was closed."""
MAX_EVENTS_AHEAD = 4096
"""Events read before their time; an event log may be larger than memory."""


@dataclass(frozen=True)
class _DownsampledLog:
    """The whole run in few events, from the thread that reads it."""

    events: list[ev.Event]


class Replay:
    """Give each event when its time has come: `speed` seconds of the run per second of `clock`."""

    role: Role = "replay"

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self.speed = 1.0
        self._paused = False
        self._steps_left = 0
        """While paused: steps still to play."""
        self._buffer = Buffer[SessionMessage | _DownsampledLog]()
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="replay", daemon=True)
        self._ahead: queue.Queue[ev.Event | None] = queue.Queue(MAX_EVENTS_AHEAD)
        self._next: ev.Event | None = None
        self._downsampled: list[ev.Event] = []
        self._played: list[ev.Event] = []
        """The events of the current step that were played."""
        self._ended = False
        self._said_end = False
        """Whether the app knows how the run ended."""
        self._closed = False
        self._seconds = 0.0
        """Time of the run that has passed and was not used by an event yet."""
        self._drained_at = clock()

    def start(self) -> None:
        self._thread.start()

    def send(self, command: cmd.Command) -> None:
        """Pause, Resume and Step act on the replay; Snapshot and Inspect get the run's saved weights."""
        match command:
            case cmd.Pause():
                self._paused = True
                self._steps_left = 0
            case cmd.Resume():
                self._paused = False
            case cmd.Step(n):
                self._paused = True
                self._steps_left = n
            case cmd.Snapshot() | cmd.Inspect() | cmd.Stop():
                self._commands.put(command)

    def close(self) -> None:
        self._closed = True
        self._commands.put(cmd.Stop())

    def join(self, seconds: float | None = None) -> bool:
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def playback(self) -> Playback:
        return self

    def status_note(self) -> str:
        return f"replay ×{self.speed:g}{' paused' if self._paused else ''}"

    def change_speed(self, by: int) -> None:
        index = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, index))]

    def drain(self) -> list[SessionMessage]:
        messages: list[SessionMessage] = []
        for message in self._buffer.drain():
            if isinstance(message, _DownsampledLog):
                self._downsampled = message.events
            else:
                messages.append(message)
        due = list(self._due())
        messages += due
        self._said_end = self._said_end or any(isinstance(event, ev.Stopped | ev.Failed) for event in due)
        if self._ended and not self._said_end:
            self._said_end = True
            messages.append(Interrupted())
        return messages

    def _due(self) -> Iterable[ev.Event]:
        """Return the events whose time has come."""
        now = self._clock()
        elapsed = max(0.0, now - self._drained_at)  # A clock may be set back.
        self._drained_at = now
        if self._paused:
            return self._next_steps()
        if self.speed == math.inf:
            return self._all_the_rest()
        self._seconds += elapsed * self.speed
        due: list[ev.Event] = []
        while (event := self._peek()) is not None:
            seconds = event.seconds if isinstance(event, ev.StepDone) else 0.0
            if seconds > self._seconds:
                break
            self._seconds -= seconds
            due.append(self._take(event))
        if self._ended:
            self._seconds = 0.0
        return due

    def _next_steps(self) -> list[ev.Event]:
        due: list[ev.Event] = []
        while self._steps_left and (event := self._peek()) is not None:
            due.append(self._take(event))
            self._steps_left -= isinstance(event, ev.StepDone)
        return due

    def _all_the_rest(self) -> list[ev.Event]:
        """Return what the downsampled log has after the events played so far, and end the replay."""
        if self._ended or not self._downsampled:
            return []
        step = self._played[-1].step if self._played else -1
        self._ended = True
        self._next = None
        return [
            event
            for event in self._downsampled
            if event.step > step or (event.step == step and event not in self._played)
        ]

    def _peek(self) -> ev.Event | None:
        """Return the next event; None at the end, or if it is not read yet."""
        if self._next is None and not self._ended:
            try:
                self._next = self._ahead.get_nowait()
                self._ended = self._next is None
            except queue.Empty:
                return None
        return self._next

    def _take(self, event: ev.Event) -> ev.Event:
        if self._played and self._played[-1].step != event.step:
            self._played = []
        self._played.append(event)
        self._next = None
        return event

    def _work(self) -> None:
        try:
            run = runs.find(self._name)
            self._buffer.put(open_ready(run))
            if (printed := OutputTail(run.path / runs.OUTPUT).poll()) is not None:
                self._buffer.put(printed)
            downsampled = [event for event in run.downsampled().events() if event.kind not in LEFT_OUT]
            self._buffer.put(_DownsampledLog(downsampled))
            if not any(isinstance(event, ev.Started | ev.Failed) for event in downsampled) and _is_script(run):
                self._buffer.put(SessionFailed(NEVER_STEPPED, is_script=True))
            threading.Thread(target=self._read, args=(run,), name="reading", daemon=True).start()
            self._answer_commands(run)
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(SessionFailed(str(error)))
        except Exception as error:
            self._buffer.put(SessionFailed(f"the replay failed: {error!r}", traceback.format_exc()))

    def _read(self, run: runs.Run) -> None:
        """Read events ahead until the end of the log, or until the replay is closed or ended."""
        try:
            for event in run.events():
                if event.kind not in LEFT_OUT and not self._put_ahead(event):
                    return
        except RunError as error:
            self._buffer.put(SessionFailed(str(error)))
        self._put_ahead(None)

    def _put_ahead(self, event: ev.Event | None) -> bool:
        while not (self._closed or self._ended):
            try:
                self._ahead.put(event, timeout=SECONDS_BETWEEN_CHECKS)
                return True
            except queue.Full:
                continue
        return False

    def _answer_commands(self, run: runs.Run) -> None:
        """Answer Snapshot and Inspect until Stop."""
        weights = SavedWeights(run)
        while not isinstance(command := self._commands.get(), cmd.Stop):
            if isinstance(command, cmd.Snapshot | cmd.Inspect):
                try:
                    weights.answer(command)
                except (ConfigError, DataError, RunError) as error:
                    self._buffer.put(ev.Warned(step=0, message=str(error)))


def _is_script(run: runs.Run) -> bool:
    return isinstance(run.config(), ScriptConfig)
