"""Play a recorded run back at a chosen speed, from any step."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import (
    Interrupted,
    Printed,
    Recorded,
    RecordedPause,
    Rewound,
    SessionMessage,
)
from tui_lab.app.session.read_ahead import ReadAhead
from tui_lab.app.session.replay_thread import Opened, ReplayThread
from tui_lab.app.session.source import Playback, Role, Timeline
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.training.checkpoint_names import step_of

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, math.inf)
"""At infinite speed the rest comes at once, from the downsampled log."""


class Replay:
    """Give each event when its time has come: `speed` seconds of the run per second of `clock`."""

    role: Role = "replay"
    _printed: Printed | None = None
    """What the run printed, if it is not given to the app yet."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.speed = 1.0
        self._paused = False
        self._steps_left = 0
        """While paused: steps still to play."""
        self._buffer = Buffer[SessionMessage | Opened]()
        self._thread = ReplayThread(name, self._buffer.put, lambda: self.position)
        self._opened: Opened | None = None
        self._timeline: Timeline | None = None
        self._reader: ReadAhead | None = None
        """None until the log is read."""
        self._from_step = -1
        """The step that was last gone to; -1: the start, before any event."""
        self._catching_up_to: int | None = None
        """The step until which events are played at once: the downsampled log has not all of them."""
        self._played: list[ev.Event] = []
        """The events of the current step that were played since then."""
        self._rewound: Rewound | None = None
        """Not given to the app yet."""
        self._closed = False
        self._said_end = False
        """Whether the app knows how the run ended."""
        self._said_paused: bool | None = None
        """What the app knows of the pause; None before the start of the run."""
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
                self._thread.send(command)

    def close(self) -> None:
        self._closed = True
        if self._reader is not None:
            self._reader.close()
        self._thread.send(cmd.Stop())

    def join(self, seconds: float | None = None) -> bool:
        return self._thread.join(seconds)

    @property
    def paused(self) -> bool:
        return self._paused

    @property
    def playback(self) -> Playback:
        return self

    @property
    def pid(self) -> int | None:
        return None

    def status_note(self) -> str:
        return "replay"

    def change_speed(self, by: int) -> None:
        index = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, index))]

    @property
    def position(self) -> int:
        played = self._played  # The thread that answers commands asks, too.
        return played[-1].step if played else max(0, self._from_step)

    @property
    def timeline(self) -> Timeline | None:
        return self._timeline

    def seek(self, step: int) -> None:
        """Go to a step; nothing until the log is read.

        The downsampled log has a step a little before it at once; the rest is played at once when it has been read.
        At infinite speed, or from the end after a fast replay, it would run to the end at once, so it plays on at the
        speed of the run.
        """
        if self._opened is None or self._reader is None or self._timeline is None:
            return
        if self.position >= self._timeline.end or not math.isfinite(self.speed):
            self.speed = min(1.0, self.speed)
        events = self._opened.events
        past = events[: bisect_right(events, max(0, step), key=lambda event: event.step)]
        self._reader.close()
        self._from_step = past[-1].step if past else 0
        self._catching_up_to = step if step > self._from_step else None
        self._reader = ReadAhead(self._opened.run, self._from_step, self._buffer.put)
        self._played = []
        self._rewound = Rewound(self._opened.ready, tuple(past))
        self._printed = self._opened.printed
        self._said_end = _has_ended(past)
        self._seconds = 0.0
        self._drained_at = self._clock()
        self._steps_left = 0

    def drain(self) -> list[SessionMessage]:
        messages: list[SessionMessage] = []
        for message in self._buffer.drain():
            if isinstance(message, Opened):
                if not self._closed:
                    self._open(message)
                    messages.append(Recorded(tuple(e for e in message.events if isinstance(e, ev.Changed))))
            else:
                messages.append(message)
        if self._rewound is not None and self._opened is not None:
            messages.append(self._rewound)
            messages += self._output() if isinstance(self._opened.ready.config, ScriptConfig) else []
            self._rewound = None
        due = list(self._due())
        messages += [RecordedPause(e) if isinstance(e, ev.Paused | ev.Resumed) else e for e in due]
        self._said_end = _has_ended(due, before=self._said_end)
        if self._reader is not None and self._reader.ended and not self._said_end:
            self._said_end = True
            messages.append(Interrupted())
        messages += self._output() if self._said_end else []
        messages += self._pause_events(messages)
        return messages

    def _output(self) -> list[Printed]:
        """Return what the run printed, unless it was given to the app."""
        printed = self._printed
        self._printed = None
        return [] if printed is None else [printed]

    def _pause_events(self, messages: list[SessionMessage]) -> list[ev.Event]:
        """Return what the app has to know of the pause of the replay after these messages."""
        for message in messages:
            events = message.past if isinstance(message, Rewound) else (message,)
            if any(isinstance(event, ev.Started) for event in events):
                self._said_paused = False  # The start of a run ends every pause.
        if self._said_paused is None or self._said_paused == self._paused or self._said_end:
            return []
        self._said_paused = self._paused
        return [ev.Paused(step=self.position) if self._paused else ev.Resumed(step=self.position)]

    def _open(self, opened: Opened) -> None:
        self._opened = opened
        steps = [event.step for event in opened.events]
        self._timeline = Timeline(
            end=max(steps, default=0),
            changes=tuple(event.step for event in opened.events if isinstance(event, ev.Changed)),
            evaluations=tuple(event.step for event in opened.events if isinstance(event, ev.Evaluated)),
            checkpoints=tuple(map(step_of, opened.run.saved_checkpoints())),
            is_done=_is_done(opened.events),
        )
        self._printed = None if isinstance(opened.ready.config, ScriptConfig) else opened.printed
        self._reader = ReadAhead(opened.run, -1, self._buffer.put)

    def _due(self) -> Iterable[ev.Event]:
        """Return the events whose time has come."""
        now = self._clock()
        elapsed = max(0.0, now - self._drained_at)  # A clock may be set back.
        self._drained_at = now
        if self._reader is None:
            return []
        missing = self._catch_up(self._reader)
        if self._catching_up_to is not None:
            return missing
        return [*missing, *self._played_since(elapsed, self._reader)]

    def _catch_up(self, reader: ReadAhead) -> list[ev.Event]:
        """Return the events that are missing until the step that was gone to, as far as they are read."""
        missing: list[ev.Event] = []
        while self._catching_up_to is not None:
            event = reader.peek()
            if event is None and not reader.ended:
                break
            if event is None or event.step > self._catching_up_to:
                self._catching_up_to = None
            else:
                missing.append(self._take(event, reader))
        return missing

    def _played_since(self, elapsed: float, reader: ReadAhead) -> list[ev.Event]:
        """Return the events of the next `elapsed` seconds."""
        if self._paused:
            return self._next_steps(reader)
        if self.speed == math.inf:
            return self._all_the_rest(reader)
        self._seconds += elapsed * self.speed
        due: list[ev.Event] = []
        while (event := reader.peek()) is not None:
            seconds = event.seconds if isinstance(event, ev.StepDone) else 0.0
            if seconds > self._seconds:
                break
            self._seconds -= seconds
            due.append(self._take(event, reader))
        if reader.ended:
            self._seconds = 0.0
        return due

    def _next_steps(self, reader: ReadAhead) -> list[ev.Event]:
        due: list[ev.Event] = []
        while self._steps_left and (event := reader.peek()) is not None:
            due.append(self._take(event, reader))
            self._steps_left -= isinstance(event, ev.StepDone)
        return due

    def _all_the_rest(self, reader: ReadAhead) -> list[ev.Event]:
        """Return what the downsampled log has after the events played so far, and end the replay."""
        if reader.ended or self._opened is None:
            return []
        reader.close()
        if self._played:
            step = self._played[-1].step
            remaining = [
                event
                for event in self._opened.events
                if event.step > step or (event.step == step and event not in self._played)
            ]
        else:
            remaining = [event for event in self._opened.events if event.step > self._from_step]
        self._played = remaining[-1:]
        return remaining

    def _take(self, event: ev.Event, reader: ReadAhead) -> ev.Event:
        if self._played and self._played[-1].step != event.step:
            self._played = []
        self._played.append(event)
        reader.take()
        return event


def _has_ended(events: Iterable[ev.Event], *, before: bool = False) -> bool:
    """Return whether the run is over after these events: it may have been resumed after an end."""
    for event in events:
        if isinstance(event, ev.Started | ev.Stopped | ev.Failed):
            before = not isinstance(event, ev.Started)
    return before


def _is_done(events: list[ev.Event]) -> bool:
    """Return whether the run ended with its last step."""
    last = next((event for event in reversed(events) if isinstance(event, ev.Stopped | ev.StepDone)), None)
    return isinstance(last, ev.Stopped) and last.reason == "done"
