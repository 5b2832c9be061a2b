"""A finished run, told again at a chosen speed."""

import math
import queue
import threading
import traceback
from collections.abc import Callable

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.session import Playback, Ready, Trouble
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import ConfigError, DataError, RunError

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0, math.inf)
"""The last one tells the rest at once, as its digest has it."""
UNTOLD = ("paused", "resumed")
PATIENCE = 0.5
AHEAD = 4096
"""Events that are read before their time: a record may be larger than the memory."""


class Replay:
    """Events come out when their time has come: `speed` seconds of the run in a second of `clock`."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock = name, clock
        self._buffer = Buffer()
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="replay", daemon=True)
        self._ahead: queue.Queue[ev.Event | None] = queue.Queue(AHEAD)
        self._next: ev.Event | None = None
        self._rest: list[ev.Event] = []
        self._told: list[ev.Event] = []  # Those of the present step.
        self._ended = self._closed = False
        self._seconds, self._asked_at = 0.0, clock()
        self._paused, self._steps_left = False, 0
        self.speed = 1.0

    trains = False

    def start(self) -> None:
        self._thread.start()

    def send(self, command: cmd.Command) -> None:
        """Pause, Resume and Step steer the telling; looks at the model see the run's last weights."""
        match command:
            case cmd.Pause():
                self._paused, self._steps_left = True, 0
            case cmd.Resume():
                self._paused = False
            case cmd.Step(n):
                self._paused, self._steps_left = True, n
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
        """Set the speed `by` places further in SPEEDS."""
        at = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at))]

    def drain(self) -> list[object]:
        found = []
        for item in self._buffer.drain():
            if isinstance(item, list):
                self._rest = item
            else:
                found.append(item)
        return found + self._due()

    def _due(self) -> list[object]:
        now = self._clock()
        elapsed, self._asked_at = max(0.0, now - self._asked_at), now  # A clock may be set back.
        if self._paused:
            return self._next_steps()
        if self.speed == math.inf:
            return self._all_the_rest()
        self._seconds += elapsed * self.speed
        due: list[object] = []
        while (event := self._peek()) is not None:
            cost = event.seconds if isinstance(event, ev.StepDone) else 0.0
            if cost > self._seconds:
                break
            self._seconds -= cost
            due.append(self._take(event))
        if self._ended:
            self._seconds = 0.0
        return due

    def _next_steps(self) -> list[object]:
        due: list[object] = []
        while self._steps_left and (event := self._peek()) is not None:
            due.append(self._take(event))
            self._steps_left -= isinstance(event, ev.StepDone)
        return due

    def _all_the_rest(self) -> list[object]:
        """What the digest has of the time not told yet, and then nothing more."""
        if self._ended or not self._rest:
            return []
        at = self._told[-1].step if self._told else -1
        self._ended, self._next = True, None
        return [event for event in self._rest if event.step > at or (event.step == at and event not in self._told)]

    def _peek(self) -> ev.Event | None:
        """The event to be told next; None at the end, and where it is not read yet."""
        if self._next is None and not self._ended:
            try:
                self._next = self._ahead.get_nowait()
                self._ended = self._next is None
            except queue.Empty:
                return None
        return self._next

    def _take(self, event: ev.Event) -> ev.Event:
        if self._told and self._told[-1].step != event.step:
            self._told = []
        self._told.append(event)
        self._next = None
        return event

    def _work(self) -> None:
        try:
            run = runs.find(self._name)
            from tui_lab.core.training.task_factory import build_task

            config = run.config()
            self._buffer.put(Ready(run.name, str(run.path), config, build_task(config)))
            self._buffer.put([event for event in run.downsampled().events() if event.kind not in UNTOLD])
            threading.Thread(target=self._read, args=(run,), name="reading", daemon=True).start()
            self._serve(run)
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(Trouble(str(error)))
        except Exception as error:
            self._buffer.put(Trouble(f"the replay broke off: {error!r}", traceback.format_exc()))

    def _read(self, run: runs.Run) -> None:
        """Fill what is ahead until the end of the record, or until nobody listens any more."""
        try:
            for event in run.events():
                if event.kind not in UNTOLD and not self._hand_over(event):
                    return
        except RunError as error:
            self._buffer.put(Trouble(str(error)))
        self._hand_over(None)

    def _hand_over(self, event: ev.Event | None) -> bool:
        while not (self._closed or self._ended):
            try:
                self._ahead.put(event, timeout=PATIENCE)
                return True
            except queue.Full:
                continue
        return False

    def _serve(self, run: runs.Run) -> None:
        """Answer looks at the model until Stop; its weights are read when first asked for."""
        model = None
        while not isinstance(command := self._commands.get(), cmd.Stop):
            if model is None:
                import torch

                from tui_lab.core.inference.load_model import load_chosen

                try:
                    chosen, model, _ = load_chosen(run)
                except (ConfigError, DataError, RunError) as error:
                    self._buffer.put(ev.Warned(step=0, message=str(error)))
                    continue
            with torch.no_grad():
                if isinstance(command, cmd.Snapshot):
                    command.receive(model.state_dict(), cmd.WeightsInfo(chosen.step, best=chosen.which == "best"))
                elif isinstance(command, cmd.Inspect):
                    command.look(model)
