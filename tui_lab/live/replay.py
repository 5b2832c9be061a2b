"""A finished run, told again at a chosen speed."""

import queue
import threading
import traceback
from collections.abc import Callable

from core import commands as cmd
from core import events as ev
from core import runs
from core.errors import ConfigError, RunError
from data.errors import DataError
from tui_lab.live.buffer import Buffer
from tui_lab.live.session import Ready, Trouble

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0)


class Replay:
    """Events come out when their time has come: `speed` seconds of the run in a second of `clock`."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock = name, clock
        self._buffer = Buffer()
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="replay", daemon=True)
        self._events: tuple[ev.Event, ...] = ()
        self._told, self._seconds, self._asked_at = 0, 0.0, clock()
        self._paused, self._steps_left = False, 0
        self.speed = 1.0

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
        self._commands.put(cmd.Stop())

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join()

    @property
    def paused(self) -> bool:
        return self._paused

    def faster(self, by: int) -> float:
        """The speed `by` places further in SPEEDS."""
        at = SPEEDS.index(self.speed) + by
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, at))]
        return self.speed

    def drain(self) -> list[object]:
        found = []
        for item in self._buffer.drain():
            if isinstance(item, tuple):
                self._events = item
            else:
                found.append(item)
        return found + self._due()

    def _due(self) -> list[object]:
        now = self._clock()
        elapsed, self._asked_at = now - self._asked_at, now
        if self._paused:
            return self._next_steps()
        self._seconds += elapsed * self.speed
        due: list[object] = []
        while self._told < len(self._events):
            event = self._events[self._told]
            cost = event.seconds if isinstance(event, ev.StepDone) else 0.0
            if cost > self._seconds:
                break
            self._seconds -= cost
            due.append(event)
            self._told += 1
        if self._told >= len(self._events):
            self._seconds = 0.0
        return due

    def _next_steps(self) -> list[object]:
        due: list[object] = []
        while self._steps_left and self._told < len(self._events):
            event = self._events[self._told]
            due.append(event)
            self._told += 1
            self._steps_left -= isinstance(event, ev.StepDone)
        return due

    def _work(self) -> None:
        try:
            run = runs.find(self._name)
            from core.tasks import build_task

            config = run.config()
            events = tuple(event for event in run.events() if event.kind not in ("paused", "resumed"))
            self._buffer.put(Ready(run.name, str(run.path), config, build_task(config)))
            self._buffer.put(events)
            self._serve(run)
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(Trouble(str(error)))
        except Exception as error:
            self._buffer.put(Trouble(f"the replay broke off: {error!r}", traceback.format_exc()))

    def _serve(self, run: runs.Run) -> None:
        """Answer looks at the model until Stop; its weights are read when first asked for."""
        model = None
        while not isinstance(command := self._commands.get(), cmd.Stop):
            if model is None:
                import torch

                from core.loading import load_model

                try:
                    model, _ = load_model(run, "last")
                except RunError as error:
                    self._buffer.put(ev.Warned(step=0, message=str(error)))
                    continue
            with torch.no_grad():
                if isinstance(command, cmd.Snapshot):
                    command.receive(model.state_dict())
                elif isinstance(command, cmd.Inspect):
                    command.look(model)
