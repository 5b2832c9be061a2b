"""Start and end the recording of a script's run in this process."""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import control
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import Lock
from tui_lab.core.watch.answers.answering import Answering
from tui_lab.core.watch.code.code_recorder import code_recorder
from tui_lab.core.watch.event_writer import EventWriter
from tui_lab.core.watch.process.ending import EndedBySignal, ending, last_events, why_no_steps
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.steering.boundary import Boundary
from tui_lab.core.watch.steering.steering import StopRequested
from tui_lab.core.watch.watched_script import Given
from tui_lab.data.tokenizers import IdTokenizer
from tui_lab.util.errors import RunError

SECONDS_WITHOUT_STEP = 60.0
NO_STEP = "no optimizer step yet after a minute: tui-lab records loops that call the step() of a torch optimizer"

IN_STEP = "the script ended inside an optimizer step, so the saved weights may contain a partial update"


class Recording:
    """A run that is being recorded. One per process; `active` is the present one.

    Create it with `start`. After `end`, `problem` says why nothing was recorded or what could not be written.
    """

    active: "Recording | None" = None

    def __init__(
        self, run: Run, lock: Lock, config: ScriptConfig, given: Given | None, commands: cmd.CommandQueue | None
    ) -> None:
        self.run = run
        self.problem = ""
        self.on_end: Callable[[], None] = lambda: None
        """Called when all is written."""
        self._ending: ev.Stopped | ev.Failed | None = None
        self._lock = lock
        self._has_ended = False
        self._pid = os.getpid()
        self._listening = contextlib.ExitStack()
        if commands is None:
            commands = queue.SimpleQueue()
            self._listening.enter_context(control.listen(run.path, commands.put))
        self._writer = EventWriter(run)
        self.answering = Answering(run)
        self.boundary = Boundary(commands, self.answering)
        self.recorder = Recorder(
            RunLog(run, config, self._writer, self.update_code),
            self.boundary,
            given,
            is_awaited=self.boundary.is_awaited,
            optimizer_stepped=self.boundary.optimizer_stepped,
        )
        self._code = code_recorder(run.path, self._writer.put) if given is None or given.code else None
        self.update_code()
        self._timer = threading.Timer(SECONDS_WITHOUT_STEP, self._check_for_steps)
        self._timer.daemon = True
        self._timer.start()
        self.recorder.hooks.install()

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], out: Path | None = None, given: Given | None = None
    ) -> "Recording":
        """Create the run folder, `out` or one named after `name`, and begin to record. Raises RunError."""
        config = ScriptConfig(command=tuple(command), folder=str(Path.cwd()))
        # The script may change its current folder.
        run = Run(runs.create(name, config, IdTokenizer(0), out).path.absolute())
        lock = run.lock()
        return cls.begin(run, lock, config, given)

    @classmethod
    def begin(
        cls,
        run: Run,
        lock: Lock,
        config: ScriptConfig,
        given: Given | None = None,
        commands: cmd.CommandQueue | None = None,
    ) -> "Recording":
        """Begin to record into a new folder, which `lock` holds. commands: where they arrive; None: it listens."""
        cls.active = cls(run, lock, config, given, commands)
        return cls.active

    @property
    def n_steps(self) -> int:
        """The optimizer steps recorded so far."""
        return self.recorder.log.n_recorded

    @property
    def n_trained(self) -> int:
        """The steps that have begun, recorded or not."""
        return self.recorder.hooks.n_steps or self.recorder.log.n_recorded

    def end(self, error: BaseException | None = None, *, caught: ev.Stopped | ev.Failed | None = None) -> None:
        """Record the last step, how the script ended, and the summary. error: the exception that ended the script.

        caught: the end by an error that the script has caught; it counts if there is no other.
        """
        if self._has_ended or os.getpid() != self._pid:  # A forked child leaves by the same way.
            return
        self._has_ended = True
        Recording.active = None
        self._timer.cancel()
        self._listening.close()
        self.answering.close()
        self._finish()
        if self.boundary.was_stopped and isinstance(error, SystemExit | None):
            error = StopRequested()  # The script caught it and ended by itself, as Lightning does with exit code 1.
        self.update_code()
        step = self.recorder.log.n_steps
        if self.boundary.has_made_last_step and isinstance(error, StopRequested):
            error = None
        self._ending = ending(step, error) if error is not None or caught is None else replace(caught, step=step)
        if isinstance(error, EndedBySignal):
            self.recorder.log.warn(str(error))
        why = ""
        if not self.n_steps:
            why = why_no_steps(self._ending, has_optimizer=bool(self.recorder.script.optimizers.present))
        for event in last_events(self._ending, why):
            self._writer.put(event)
        self._writer.close()
        self.problem = self._writer.problem or why
        self.recorder.script.given = Given()
        self._lock.release()
        self.on_end()

    def _finish(self) -> None:
        """Record the last step, and save the state after it."""
        is_in_step = self.recorder.is_stepping
        try:
            self.recorder.finish()
            if self.n_steps:
                self.boundary.save_last(self.recorder)
        except RunError as failure:
            self.recorder.log.warn(f"the last state was not saved: {failure}")
        except Exception as failure:  # A half-built model may raise anything when it is read.
            self.recorder.log.warn(f"the last state was not saved: {failure!r}")
        if is_in_step:
            self.recorder.log.warn(IN_STEP)

    @property
    def is_busy(self) -> bool:
        """Whether a step is being made or recorded at this moment, so that the recording cannot end in between."""
        return (self.recorder.is_stepping or self.recorder.hooks.is_notifying) and not self.boundary.is_waiting

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    @property
    def state(self) -> str:
        """recording, done, stopped, or failed with the first line of the error."""
        match self._ending:
            case None:
                return "recording"
            case ev.Failed(message=message):
                return "failed: " + message.partition("\n")[0]
            case ev.Stopped(reason=reason):
                return reason

    @property
    def is_here(self) -> bool:
        """Whether this is the process that records, and not a forked one."""
        return os.getpid() == self._pid

    def update_code(self) -> None:
        """Record the files that the script has imported so far, and the cells of a notebook that have trained."""
        if self._code is not None:
            self._code.update(self.n_trained)

    def _check_for_steps(self) -> None:
        """Runs in the timer's thread, which only puts an event into the writer's queue."""
        if not self.recorder.script.optimizers.present:
            self._writer.put(ev.Warned(step=0, message=NO_STEP))
