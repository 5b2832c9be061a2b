"""The commands that a script's run takes between two steps."""

from torch import nn

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.training.control import TrainControl
from tui_lab.core.training.distributed import SINGLE_PROCESS
from tui_lab.core.watch import checkpoints
from tui_lab.core.watch.answers.answering import Answering
from tui_lab.core.watch.last_state import UNKNOWN
from tui_lab.core.watch.model.model_calls import is_sharded
from tui_lab.core.watch.ranks.group import n_processes
from tui_lab.core.watch.ranks.leading_rank import LeadingRank
from tui_lab.core.watch.recorder import Recorder
from tui_lab.core.watch.steering.changes import ScriptChanges
from tui_lab.core.watch.steering.steering import StopRequested
from tui_lab.util.errors import ConfigError, RunError

NOT_FOR_SCRIPTS = "not available for scripts: the script decides when it evaluates"


class Boundary:
    """Executes commands in the script's thread; while paused, it waits there."""

    def __init__(self, commands: cmd.CommandQueue, answering: Answering) -> None:
        self.control = TrainControl(commands)
        self.was_stopped = False
        """Whether StopRequested was raised and no step was made after it."""
        self.is_waiting = False
        """Whether it waits for a command, while the run is paused."""
        self.last_step = 0
        """The step after which the script is stopped; 0: none."""
        self.has_made_last_step = False
        self._answering = answering
        self._commands = commands
        self._changes = ScriptChanges(self.control)
        self._ranks = LeadingRank(self._changes) if n_processes() > 1 else None

    def __call__(self, recorder: Recorder) -> None:
        """Execute what has arrived. Raises StopRequested once if the user asked to stop."""
        control = self.control
        if self.was_stopped:  # The script continues.
            self.was_stopped = False
            self._resume(recorder)
        control.count_step()
        self._check_last_step(recorder)
        if not self.is_awaited():
            return
        try:
            with recorder.clock.pause():
                self._wait(recorder)
        except KeyboardInterrupt:  # Ctrl+C while the run is paused: the next step is not one of a paused run.
            self._resume(recorder)
            raise
        if control.stop_requested:
            self.was_stopped = True
            control.end_stop()
            raise StopRequested("stopped from tui-lab")

    def _check_last_step(self, recorder: Recorder) -> None:
        """Request the stop after the last step that is to be made."""
        if not self.last_step:
            return
        recorder.close_step(wait=False)
        if recorder.steps.n_complete >= self.last_step:
            self.has_made_last_step = True
            self.control.request_stop()

    def is_awaited(self) -> bool:
        """Return whether there is something to do at the end of the step."""
        return not self._commands.empty() or self.control.has_pending or self.control.stop_requested

    def _wait(self, recorder: Recorder) -> None:
        """Execute what has arrived, and what arrives until the script is to continue."""
        recorder.close_step(wait=True)  # The user sees the step after which the script waits.
        self.control.poll(SINGLE_PROCESS)
        self._execute_pending(recorder)
        while self.control.paused and not self.control.stop_requested:
            self.is_waiting = True
            try:
                self.control.poll(SINGLE_PROCESS, wait=True)
            finally:
                self.is_waiting = False
            self._execute_pending(recorder)
        recorder.batches.always = self.control.steps_left > 0

    def _execute_pending(self, recorder: Recorder) -> None:
        while (command := self.control.next_command()) is not None:
            try:
                self._execute(command, recorder)
            except (ConfigError, RunError, OSError) as error:
                recorder.log.warn(str(error))
            except Exception as error:  # A user's model may raise anything; recording continues.
                recorder.log.warn(f"{type(command).__name__} failed: {error!r}")

    def _execute(self, command: cmd.Command, recorder: Recorder) -> None:
        log = recorder.log
        match command:
            case cmd.Pause():
                if self.control.pause():
                    log.put(ev.Paused(step=log.n_steps))
            case cmd.Resume() | cmd.Step():
                self._resume(recorder, command.n if isinstance(command, cmd.Step) else 0)
            case cmd.Set() | cmd.Scale() | cmd.Shift() | cmd.Cycle() | cmd.Undo():
                self._change(command, recorder)
            case cmd.Save():
                self.save(recorder)
            case cmd.Generate():
                self._answering.generate(command, self._callable_model(recorder), recorder)
            case cmd.Attend():
                self._answering.attend(command, self._callable_model(recorder), recorder)
            case cmd.LookInside():
                self._answering.look_inside(command, self._callable_model(recorder), recorder)
            case cmd.Stop():
                self.control.request_stop()
            case _:
                log.warn(NOT_FOR_SCRIPTS)

    def _resume(self, recorder: Recorder, steps: int = 0) -> None:
        """End a pause, if there is one. steps: after which the next one begins; 0: none."""
        if self.control.resume(steps):
            recorder.log.put(ev.Resumed(step=recorder.log.n_steps))

    def save(self, recorder: Recorder) -> None:
        """Write a checkpoint of the weights and the optimizers.

        Raises OSError, and RunError if there is no model or it is spread over several processes.
        """
        run = recorder.log.run
        model = recorder.script.model
        if model is None:
            raise RunError.of("unavailable", UNKNOWN)
        path = checkpoints.save(run.checkpoints, recorder.log.n_steps, model, recorder.last_state.optimizers)
        recorder.log.put(ev.Saved(step=recorder.log.n_steps, path=str(path.relative_to(run.path))))

    def save_last(self, recorder: Recorder) -> None:
        """Write a checkpoint of the state after the last step, if there is one.

        Raises OSError, and RunError if it is not known.
        """
        run = recorder.log.run
        recorder.last_state.watch(recorder.script.model)
        if not recorder.last_state.exists:
            return
        path = recorder.last_state.save(recorder.log.n_steps)
        recorder.log.put(ev.Saved(step=recorder.log.n_steps, path=str(path.relative_to(run.path))))

    def _callable_model(self, recorder: Recorder) -> nn.Module | None:
        """Return the model, unless all processes would have to call it together."""
        model = recorder.script.model
        return None if model is None or is_sharded(model) else model

    def _change(self, command: cmd.Change, recorder: Recorder) -> None:
        """Change a setting, now or after the step that all processes agree on. Raises ConfigError."""
        if self._ranks is not None and not recorder.log.config.trains_apart:
            self._ranks.add(command)
        elif (change := self._changes.resolve(command, recorder)) is not None:
            self._changes.make(change, recorder)

    def optimizer_stepped(self, recorder: Recorder) -> None:
        """Called after each step of an optimizer, and after the commands that were executed there."""
        if self._ranks is not None:
            self._ranks.stepped(recorder)
