"""A training in a worker thread: commands in, messages out, nothing shared."""

import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tui_lab.app.session.buffer import Buffer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.data.dataset import Task
from tui_lab.util.errors import ConfigError, DataError, RunError, TrainingError
from tui_lab.util.files import advice

# The first frame is painted before torch is there.
if TYPE_CHECKING:
    from tui_lab.core.runs.open_run import Opened


@dataclass(frozen=True)
class Ready:
    """A training or replay is open. All of it is frozen, or read only."""

    name: str
    path: str
    config: Config
    """As the run began; the live changes are among `past`."""
    task: Task
    past: tuple[ev.Event, ...] = ()
    """What the run did before it was opened, thinned."""


@dataclass(frozen=True)
class Trouble:
    """It cannot go on. message is for a person; details, if any, for whoever mends it."""

    message: str
    details: str = ""


@dataclass(frozen=True)
class Preparing:
    """What is being done before training can start."""

    what: str
    done: int
    total: int


class Playback(Protocol):
    """The speed and pause of a replay."""

    @property
    def paused(self) -> bool: ...

    def change_speed(self, by: int) -> None:
        """Play at a speed `by` places up the list of speeds."""
        ...


class Source(Protocol):
    """Where the lab's panes get what they show: a live training or a replay."""

    @property
    def trains(self) -> bool:
        """Whether a model trains here: commands change the run, and it must be saved before the lab closes."""
        ...

    @property
    def playback(self) -> Playback | None:
        """The controls of a replay; None if the events come at their own pace."""
        ...

    def status_note(self) -> str:
        """Return what the status line adds about the source; may be empty."""
        ...

    def start(self) -> None: ...
    def send(self, command: cmd.Command) -> None: ...
    def drain(self) -> list[object]:
        """Events, and Ready, Preparing or Trouble, in order."""
        ...

    def close(self) -> None:
        """Stop and save; returns at once."""
        ...

    def join(self, seconds: float | None = None) -> bool:
        """Wait until all is saved, but no longer than `seconds`; whether it is."""
        ...


Report = Callable[[str, int, int], None]


class _Closed(Exception):
    """Raised where the opening of a training tells how far it is, and nobody waits for it any more."""


class Session:
    """Owns the thread that trains, its commands and the bounded buffer of what it tells."""

    def __init__(self, open: "Callable[[Report, cmd.CommandQueue], Opened]", *, paused: bool = False) -> None:
        self._open, self._paused = open, paused
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._buffer = Buffer()
        self._closed = threading.Event()
        self._ended: Opened | None = None
        self._trouble = ""
        self._thread = threading.Thread(target=self._work, name="training", daemon=True)

    trains = True
    playback: Playback | None = None

    def status_note(self) -> str:
        return ""

    def start(self) -> None:
        self._thread.start()

    def send(self, command: cmd.Command) -> None:
        self._commands.put(command)

    def drain(self) -> list[object]:
        return self._buffer.drain()

    def close(self) -> None:
        self._closed.set()
        self._commands.put(cmd.Stop())

    def join(self, seconds: float | None = None) -> bool:
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            opened = self._open(self._prepare, self._commands)
            try:
                self._buffer.put(_ready(opened))
                self._train(opened)
            finally:
                opened.close()
            self._ended = opened
            while not self._closed.is_set():
                self._answer(self._commands.get())
        except _Closed:
            return
        except (ConfigError, DataError, RunError, TrainingError) as error:
            self._buffer.put(Trouble(str(error)))
        except BaseException as error:
            # The app outlives whatever happens here, a stranger's sys.exit() included, and shows it in words.
            message = f"the training broke off: {error!r}; what was saved before is safe"
            self._buffer.put(Trouble(message, traceback.format_exc()))

    def _prepare(self, what: str, done: int, total: int) -> None:
        """Called as a corpus is read: who leaves meanwhile need not wait until it is."""
        if self._closed.is_set():
            raise _Closed
        self._buffer.put(Preparing(what, done, total))

    def _train(self, opened: "Opened") -> None:
        if self._paused:
            self._commands.put(cmd.Pause())
        for event in opened.run.record(opened.trainer.events()):
            opened.seen.update(event)
            self._buffer.put(event)
            if isinstance(event, ev.SaveFailed) and not self._closed.is_set():
                self._commands.put(cmd.Pause())
            self._trouble = event.message if isinstance(event, ev.SaveFailed) else self._trouble
        self._write_summary(opened)

    def _write_summary(self, opened: "Opened") -> None:
        try:
            opened.run.write_summary(opened.seen.summary(str(opened.run.path)))
        except OSError as error:
            message = f"the summary cannot be written: {advice(error)}"
            self._buffer.put(ev.SaveFailed(step=opened.trainer.step, message=message, path=str(opened.run.path)))

    @property
    def unsaved(self) -> str:
        """After the end: what stands in the way of saving the last state; empty where it is saved."""
        return self._trouble if self._ended is not None and self._ended.trainer.save_failed else ""

    def save_again(self) -> None:
        """After `join`: try once more."""
        self._answer(cmd.Checkpoint())

    def _answer(self, command: cmd.Command) -> None:
        """What still makes sense after the end: a look at the model, a save that failed."""
        if (opened := self._ended) is None:
            return
        events = opened.trainer.run_after_end(command)
        if isinstance(command, cmd.Checkpoint) and opened.trainer.save_failed:
            events = self._recorded(opened, events)
        for event in events:
            self._buffer.put(event)

    def _recorded(self, opened: "Opened", events: Iterator[ev.Event]) -> Iterator[ev.Event]:
        try:
            lock = opened.run.lock()
            try:
                for event in opened.run.record(events):
                    self._trouble = event.message if isinstance(event, ev.SaveFailed) else self._trouble
                    yield event
                self._write_summary(opened)
            finally:
                lock.release()
        except RunError as error:
            self._trouble = str(error)
            yield ev.SaveFailed(step=opened.trainer.step, message=str(error), path=str(opened.run.path))


def _ready(opened: "Opened") -> Ready:
    past = tuple(opened.run.downsampled().events())
    return Ready(opened.run.name, str(opened.run.path), opened.run.config(), opened.trainer.task, past)
