"""Follow a run that another process trains, and steer it through the run's control channel."""

import queue
import threading
import traceback

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import Ready, SessionFailed, SessionMessage
from tui_lab.app.session.saved_weights import SavedWeights
from tui_lab.app.session.source import Playback, Role
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import control, lock
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.follow import LogFollower, Restarted
from tui_lab.util.errors import ConfigError, DataError, RunError

POLL_SECONDS = 0.1
"""How often new events are read."""
HOLDER_SECONDS = 1.0
"""How often the lock is tried: within two of these the app says that the training process is gone."""
PAUSING = (ev.Started, ev.Paused, ev.Resumed)
"""The events that say whether a run is paused."""


class Following:
    """Give the events that another process records, and send commands to it.

    Snapshot and Inspect are answered from the run's checkpoints, since the model is in the other process.
    """

    playback: Playback | None = None

    def __init__(self, name: str, holder: lock.Holder) -> None:
        self._run = runs.find(name)
        self._holder = holder
        self._buffer = Buffer[SessionMessage]()
        self._looks: queue.SimpleQueue[cmd.Snapshot | cmd.Inspect | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="following", daemon=True),
            threading.Thread(target=self._answer_looks, name="saved weights", daemon=True),
        ]

    @property
    def role(self) -> Role:
        return "steering" if control.can_send(self._run.path) else "watching"

    def status_note(self) -> str:
        return f"trained by process {self._holder.pid}" + ("" if self.role == "steering" else ", read only")

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def send(self, command: cmd.Command) -> None:
        if isinstance(command, cmd.Snapshot | cmd.Inspect):
            self._looks.put(command)
            return
        try:
            control.send(self._run.path, command)
        except RunError as error:
            self._warn(str(error))

    def drain(self) -> list[SessionMessage]:
        return self._buffer.drain()

    def close(self) -> None:
        """Stop following; the other process keeps training."""
        self._closed.set()
        self._looks.put(None)

    def join(self, seconds: float | None = None) -> bool:
        for thread in self._threads:
            if thread.is_alive():
                thread.join(seconds)
        return not any(thread.is_alive() for thread in self._threads)

    def _warn(self, message: str) -> None:
        self._buffer.put(ev.Warned(step=0, message=message))

    def _follow(self) -> None:
        try:
            log = self._open()
            seconds = 0.0
            while not self._closed.is_set() and not self._ended(log, check_holder=seconds >= HOLDER_SECONDS):
                seconds = 0.0 if seconds >= HOLDER_SECONDS else seconds + POLL_SECONDS
                self._closed.wait(POLL_SECONDS)
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(SessionFailed(str(error)))
        except Exception as error:
            self._buffer.put(SessionFailed(f"following the run failed: {error!r}", traceback.format_exc()))

    def _open(self) -> LogFollower:
        """Give what the run did so far, downsampled, and where to read on."""
        from tui_lab.core.training.task_factory import build_task

        run = self._run
        config = run.trainer_config()
        task = build_task(config)
        downsampled, offset = run.log.stored_downsampled()
        log = LogFollower(run.log.path, offset)
        while isinstance(events := log.poll(), list) and events:
            for event in events:
                downsampled.add(event)
        past = downsampled.events()
        self._buffer.put(Ready(run.name, str(run.path), config, task, tuple(past)))
        for event in _present(past):
            self._buffer.put(event)
        return log

    def _ended(self, log: LogFollower, *, check_holder: bool) -> bool:
        """Pass the new events on; return whether no more can come."""
        # The lock first: what a process recorded before it ended is read after that.
        holder = lock.in_use(self._run.path) if check_holder else self._holder
        events = log.poll()
        if isinstance(events, Restarted) or (holder is not None and holder != self._holder):
            self._buffer.put(SessionFailed("another process has resumed this run; open it again to follow it"))
            return True
        for event in events:
            self._buffer.put(event)
        if any(isinstance(event, ev.Stopped | ev.Failed) for event in events):
            return True
        if holder is None:
            self._buffer.put(
                SessionFailed(
                    f"process {self._holder.pid} exited before the run finished; "
                    f"resume it with: tui-lab run --resume {self._run.path}"
                )
            )
        return holder is None

    def _answer_looks(self) -> None:
        weights = SavedWeights(self._run)
        last_problem = ""
        while (command := self._looks.get()) is not None:
            try:
                weights.answer(command)
            except (ConfigError, DataError, RunError) as error:
                if str(error) != last_problem:  # A pane asks again and again until there is a checkpoint.
                    last_problem = str(error)
                    self._warn(last_problem)


def _present(past: list[ev.Event]) -> list[ev.Event]:
    """Return the events that bring the app to where the run is now: running, or paused."""
    step = past[-1].step if past else 0
    started = [event for event in past if isinstance(event, ev.Started)][-1:]
    present: list[ev.Event] = [_at_step(event, step) for event in started]
    pausing = [event for event in past if isinstance(event, PAUSING)]
    if pausing and isinstance(pausing[-1], ev.Paused):
        present.append(_at_step(pausing[-1], step))
    return present


def _at_step(event: ev.Event, step: int) -> ev.Event:
    return ev.from_json(event.to_json() | {"step": step})
