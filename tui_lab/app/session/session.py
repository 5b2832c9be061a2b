"""Train in a background thread: commands go in, messages come out, nothing else is shared."""

import contextlib
import os
import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import Preparing, Ready, SessionFailed, SessionMessage
from tui_lab.app.session.source import Playback, Role
from tui_lab.app.shutdown import TRAINING
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import control
from tui_lab.core.runs.delete import remove_unused
from tui_lab.util.errors import ConfigError, DataError, RunError, TrainingError
from tui_lab.util.files import advice

# The first frame is painted before torch is imported.
if TYPE_CHECKING:
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.data.dataset import ReportProgress


FAILED = "the training has failed"
"""Why a command is refused that nothing will run."""


class _Closed(Exception):
    """Raised while a run is being opened, if the session was closed meanwhile."""


class Session:
    """Own the training thread, its commands and the buffer of its messages."""

    role: Role = "training"
    playback: Playback | None = None
    removes_unused = False
    """Whether a run that makes no step is removed when the session is closed. To be set before that."""

    def __init__(self, open: "Callable[[ReportProgress, cmd.CommandQueue], OpenRun]", *, paused: bool = False) -> None:
        self._open = open
        self._start_paused = paused
        self._commands: cmd.CommandQueue = queue.SimpleQueue()
        self._buffer = Buffer[SessionMessage]()
        self._closed = threading.Event()
        self._failed = threading.Event()
        self._ended: OpenRun | None = None
        self._save_error: str | None = None
        self._thread = threading.Thread(target=self._work, name=TRAINING, daemon=True)

    @property
    def pid(self) -> int | None:
        return os.getpid()

    def status_note(self) -> str:
        return ""

    def start(self) -> None:
        self._thread.start()

    def send(self, command: cmd.Command) -> None:
        self._commands.put(command)
        if self._failed.is_set():
            self._refuse_waiting()

    def drain(self) -> list[SessionMessage]:
        return self._buffer.drain()

    def close(self) -> None:
        self._closed.set()
        self._commands.put(cmd.Stop())

    def join(self, seconds: float | None = None) -> bool:
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def unsaved(self) -> str | None:
        """After `join`: why the last state could not be saved; None if it was saved."""
        return self._save_error if self._ended is not None and self._ended.trainer.save_failed else None

    def save_again(self) -> None:
        """After `join`: try once more to save the last state."""
        self._run_after_end(cmd.Save(keep=False))

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
                self._run_after_end(self._commands.get())
            self._remove_if_unused(opened)
        except _Closed:
            return
        except (ConfigError, DataError, RunError, TrainingError) as error:
            self._fail(SessionFailed(str(error)))
        except BaseException as error:
            # The app keeps running and shows the error, even sys.exit() in user code.
            message = f"training failed: {error!r}; the last checkpoint is kept"
            self._fail(SessionFailed(message, traceback.format_exc()))

    def _fail(self, message: SessionFailed) -> None:
        self._buffer.put(message)
        self._failed.set()
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        """Refuse the commands that nothing will run."""
        with contextlib.suppress(queue.Empty):
            while True:
                cmd.refuse(self._commands.get_nowait(), FAILED)

    def _remove_if_unused(self, opened: "OpenRun") -> None:
        if self.removes_unused:
            with contextlib.suppress(RunError, OSError):  # A folder with files of the user stays.
                if remove_unused(opened.run):
                    self._ended = None

    def _prepare(self, what: str, done: int, total: int) -> None:
        """Report progress while a run is being opened; give up if the session was closed."""
        if self._closed.is_set():
            raise _Closed
        self._buffer.put(Preparing(what, done, total))

    def _train(self, opened: "OpenRun") -> None:
        if self._start_paused:
            self._commands.put(cmd.Pause())
        with control.listen(opened.run.path, self._commands.put):
            for event in self._noting_save_errors(opened.run.record(opened.trainer.events())):
                opened.summarizer.update(event)
                self._buffer.put(event)
                if isinstance(event, ev.SaveFailed) and not self._closed.is_set():
                    self._commands.put(cmd.Pause())
        self._write_summary(opened)

    def _noting_save_errors(self, events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        for event in events:
            if isinstance(event, ev.SaveFailed):
                self._save_error = event.message
            yield event

    def _write_summary(self, opened: "OpenRun") -> None:
        path = opened.run.path
        try:
            opened.run.write_summary(opened.summarizer.summary(str(path)))
        except OSError as error:
            message = f"cannot write the summary: {advice(error)}"
            self._buffer.put(ev.SaveFailed(step=opened.trainer.step, message=message, path=str(path)))

    def _run_after_end(self, command: cmd.Command) -> None:
        """Run a command that still makes sense after the end: inspect the model, or save again."""
        opened = self._ended
        if opened is None:
            return
        events: Iterable[ev.Event] = opened.trainer.run_after_end(command)
        if isinstance(command, cmd.Save) and opened.trainer.save_failed:
            events = self._recorded(opened, events)
        for event in events:
            self._buffer.put(event)

    def _recorded(self, opened: "OpenRun", events: Iterable[ev.Event]) -> Iterator[ev.Event]:
        """Lock the run again and record events in its log."""
        try:
            lock = opened.run.lock()
            try:
                yield from self._noting_save_errors(opened.run.record(events))
                self._write_summary(opened)
            finally:
                lock.release()
        except RunError as error:
            self._save_error = str(error)
            yield ev.SaveFailed(step=opened.trainer.step, message=str(error), path=str(opened.run.path))


def _ready(opened: "OpenRun") -> Ready:
    past = tuple(opened.run.downsampled().events())
    task = opened.trainer.task
    return Ready(opened.run.name, str(opened.run.path), opened.run.trainer_config(), task, task.tokenizer, past)
