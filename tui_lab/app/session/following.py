"""Follow a run that another process trains, and steer it through the run's control channel."""

import queue
import socket
import threading
import time
import traceback
from datetime import datetime

from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.messages import Interrupted, PauseRequested, Ready, SessionFailed, SessionMessage, Waiting
from tui_lab.app.session.output_tail import OutputTail, without_events
from tui_lab.app.session.requested_pause import RequestedPause
from tui_lab.app.session.saved_weights import SavedWeights
from tui_lab.app.session.source import Playback, Role
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import control, lock, run_files
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.follow import LogFollower, Restarted
from tui_lab.util.errors import ConfigError, DataError, RunError

POLL_SECONDS = 0.1
"""How often new events are read."""
HOLDER_SECONDS = 1.0
"""How often the lock is tried: within two of these the app says that the training process is gone."""
OUTPUT_SECONDS = 0.5
"""How often new output is read."""
N_LAST_LINES = 6
"""Lines of output that are shown with the end of a script."""
RESUMED = "another process has resumed this run; open it again to follow it"
REMOVED = "the folder of this run was removed"


class Following:
    """Give the events that another process records, and send commands to it.

    Snapshot and Inspect are answered from the run's checkpoints, since the model is in the other process. A script is
    ready once it has made an optimizer step: only then are its model and its settings known.
    """

    playback: Playback | None = None

    def __init__(self, name: str, holder: lock.Holder) -> None:
        self._run = runs.find(name)
        self._holder = holder
        self._buffer = Buffer[SessionMessage]()
        self._output = OutputTail(self._run.path / run_files.OUTPUT)
        self._commands = control.SentCommands(self._run.path)
        self._requested_pause = RequestedPause()
        self._is_script = False
        self._ready = False
        self._is_over = False
        self._looks: queue.SimpleQueue[cmd.Snapshot | cmd.Inspect | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="following", daemon=True),
            threading.Thread(target=self._answer_looks, name="saved weights", daemon=True),
        ]

    @property
    def role(self) -> Role:
        return "steering" if control.can_send(self._run.path) else "watching"

    @property
    def pid(self) -> int | None:
        here = self._holder.host == socket.gethostname() and not self._is_over
        return (self._holder.pid or None) if here else None

    def status_note(self) -> str:
        if self._is_over:
            return ""
        read_only = ", read only" if self.role == "watching" else ""
        return f"trained by process {self._holder.pid}{read_only}"

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
            n_polls = 0
            while not self._closed.is_set() and not self._ended(log, check_holder=_is_due(n_polls, HOLDER_SECONDS)):
                if _is_due(n_polls, OUTPUT_SECONDS):
                    self._read_output()
                    self._wait_for_first_step()
                self._read_requested_pause()
                n_polls += 1
                self._closed.wait(POLL_SECONDS)
        except (ConfigError, DataError, RunError) as error:
            self._buffer.put(SessionFailed(str(error)))
        except Exception as error:
            self._buffer.put(SessionFailed(f"following the run failed: {error!r}", traceback.format_exc()))

    def _open(self) -> LogFollower:
        """Give what the run did so far, downsampled, and where to read on."""
        run = self._run
        self._is_script = isinstance(run.config(), ScriptConfig)
        downsampled, offset = run.log.stored_downsampled()
        log = LogFollower(run.log.path, offset)
        while isinstance(events := log.poll(), list) and events:
            for event in events:
                downsampled.add(event)
        past = downsampled.events()
        if self._is_script and not any(isinstance(event, ev.Started) for event in past):
            self._wait_for_first_step()
            self._read_output()
            for event in past:
                self._buffer.put(event)
            return log
        self._ready = True
        self._buffer.put(open_ready(run, tuple(past), in_progress=True))
        self._read_output()
        return log

    def _wait_for_first_step(self) -> None:
        if not self._ready:
            seconds = max(0.0, time.time() - _started_at(self._holder, self._run))
            config = self._run.config()
            assert isinstance(config, ScriptConfig)
            self._buffer.put(Waiting(self._run.name, str(self._run.path), seconds, config))

    def _read_requested_pause(self) -> None:
        """Before the first step no event says what was asked for, and any app may have asked."""
        pause = self._requested_pause
        before = (pause.step, pause.by_steps)
        for command in [] if self._ready else self._commands.poll():
            pause.sent(command, 0, paused=False)
        if (pause.step, pause.by_steps) != before:
            self._buffer.put(PauseRequested(pause.step, pause.by_steps))

    def _read_output(self) -> None:
        if (printed := self._output.poll()) is not None:
            self._buffer.put(printed if self._is_script else without_events(printed))

    def _ended(self, log: LogFollower, *, check_holder: bool) -> bool:
        """Pass the new events on; return whether no more can come."""
        # The lock first: what a process recorded before it ended is read after that.
        holder = lock.in_use(self._run.path) if check_holder else self._holder
        events = log.poll()
        # A process that ends removes its description before it gives up the lock.
        is_another = holder not in (None, lock.UNKNOWN, self._holder)
        if isinstance(events, Restarted) or is_another:
            self._buffer.put(SessionFailed(RESUMED if self._run.path.is_dir() else REMOVED))
            return True
        last = next((event for event in events if isinstance(event, ev.Stopped | ev.Failed)), None)
        if last is not None or holder is None:
            self._read_output()  # Before the end, which may quote it.
        for event in events:
            if isinstance(event, ev.Started) and not self._ready:
                self._ready = True
                self._buffer.put(open_ready(self._run))
            if not isinstance(event, ev.Stopped) or self._ready:
                self._buffer.put(event)
        if isinstance(last, ev.Stopped) and not self._ready:
            self._buffer.put(SessionFailed(self._without_step("the script ended"), is_script=True))
        elif last is None and holder is None:
            gone = self._gone()
            self._buffer.put(SessionFailed(gone, is_script=True) if self._is_script else Interrupted(gone))
        self._is_over = last is not None or holder is None
        return self._is_over

    def _gone(self) -> str:
        """Say that the process ended without recording it."""
        process = f"process {self._holder.pid}" if self._holder.pid else "the process"
        if not self._is_script:
            return f"{process} exited before the run finished; resume it with: tui-lab run --resume {self._run.path}"
        if not self._ready:
            return self._without_step(f"{process} exited")
        return f"{process} exited before the script ended: it was killed, or it crashed{self._quoted_output()}"

    def _without_step(self, what: str) -> str:
        return f"{what} before it made an optimizer step, so there is nothing to show{self._quoted_output()}"

    def _quoted_output(self) -> str:
        lines = [line for line in self._output.last_lines if line][-N_LAST_LINES:]
        return ". It printed last:\n" + "\n".join(lines) if lines else ". It printed nothing"

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


def open_ready(run: runs.Run, past: tuple[ev.Event, ...] = (), *, in_progress: bool = False) -> Ready:
    """Return the message that a run is open. Raises ConfigError, DataError or RunError."""
    config = run.config()
    if isinstance(config, Config):
        from tui_lab.core.training.task_factory import build_task

        task = build_task(config)
        return Ready(run.name, str(run.path), config, task, task.tokenizer, past, in_progress)
    return Ready(run.name, str(run.path), config, None, run.tokenizer(), past, in_progress)


def _is_due(n_polls: int, seconds: float) -> bool:
    """Return whether something that happens every `seconds` is due at this poll."""
    return n_polls % round(seconds / POLL_SECONDS) == 0


def _started_at(holder: lock.Holder, run: runs.Run) -> float:
    """Return when the process took the lock, in seconds since 1970."""
    try:
        return datetime.strptime(holder.since, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return (run.path / run_files.LOCK).stat().st_mtime
