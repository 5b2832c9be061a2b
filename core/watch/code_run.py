"""The run that `tui_lab.watch` began, and not the command `tui-lab watch`: when another one begins, and how it ends."""

import atexit
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

from tui_lab.core.watch.notebook import NotebookCells
from tui_lab.core.watch.process.ending import NO_ERRORS
from tui_lab.core.watch.recording import Recording
from tui_lab.core.watch.watched_script import Given, WatchedScript
from tui_lab.util.escape import printable
from tui_lab.util.plural import counted


class CodeRun:
    """Ends its recording when the process ends, unless that was done before. `active` is the present one."""

    active: "CodeRun | None" = None

    def __init__(self, recording: Recording, name: str | None) -> None:
        """name: as the code gave it."""
        self.recording = recording
        self._name = name
        self._errors_before = (id(sys.exception()), id(_last_uncaught()))
        self._cells = NotebookCells(lambda: recording.n_trained, recording.update_code, self._cell_stopped)
        recording.on_end = self._recording_ended
        atexit.register(self.end_left_open)

    @classmethod
    def begin(cls, name: str | None, out: Path | None, given: Given) -> "CodeRun":
        """Begin to record, and say where. Raises RunError."""
        script = getattr(sys.modules["__main__"], "__file__", None)  # A notebook has none.
        default_name = "notebook" if script is None else Path(script).stem
        cls.active = cls(Recording.start(name or default_name, sys.argv, out, given), name)
        folder = cls.active.shown_folder
        say(f"recording into {folder}; follow it with: tui-lab app {shlex.quote(folder)}")
        return cls.active

    @classmethod
    def of(cls, recording: Recording | None) -> "CodeRun | None":
        """Return the present run if it has this recording."""
        return cls.active if cls.active is not None and cls.active.recording is recording else None

    @property
    def shown_folder(self) -> str:
        """The run folder as seen from the current folder, if it is in there."""
        path = self.recording.run.path
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

    def difference(self, given: Given, name: str | None, out: Path | None) -> str:
        """Return why a call of `watch` with these arguments asks for another run; empty: it asks for this one."""
        if other := other_training(self.recording, given):
            return f"with another {other}"
        if name is not None and name != self._name:
            return "with another name"
        if out is not None and out.absolute() != self.recording.run.path:
            return "with another folder"
        has_training = given.model is not None or bool(given.optimizers)
        if self._cells.error is not None and not has_training and (name is not None or out is not None):
            return "again after the cell had failed"
        return ""

    def end(self) -> None:
        """End the recording where the code closes it: with the exception that is handled there, if any."""
        self.recording.end(self._handled() or self._cells.error)

    def end_left_open(self) -> None:
        """End the recording that the code has not closed, with the exception that nothing has caught.

        Without one, an error that the code has caught ends it, if the code has not trained after it.
        """
        error = self._handled() or self._cells.error
        if error is None and not self._cells.are_seen and id(_last_uncaught()) != self._errors_before[1]:
            error = _last_uncaught()
        self.recording.end(error, caught=self.recording.recorder.hooks.raised)

    def end_for_another(self, difference: str) -> None:
        """End the recording since `watch` was called with something else, and say so."""
        self.end_left_open()
        say(f"{self._summary()}: watch() was called {difference}")

    def _cell_stopped(self) -> None:
        """The user has stopped the run in the app, and the cell has ended."""
        self.end_left_open()
        say(self._summary())

    def _summary(self) -> str:
        return f"{self.shown_folder} has ended ({self.recording.state}, {counted(self.recording.n_steps, 'step')})"

    def _handled(self) -> BaseException | None:
        """Return the exception for which the calling code cleans up.

        None for one that it handled when the run began.
        """
        error = sys.exception()
        return None if id(error) == self._errors_before[0] or isinstance(error, NO_ERRORS) else error

    def _recording_ended(self) -> None:
        self._cells.close()
        atexit.unregister(self.end_left_open)
        if CodeRun.active is self:
            CodeRun.active = None
        if self.recording.problem:
            say(self.recording.problem)


def other_training(recording: Recording, given: Given) -> str:
    """Return what of `given` is not what is recorded: "model" or "optimizer"; empty if nothing is."""
    script = recording.recorder.script
    has_trained = recording.recorder.hooks.n_steps > 0
    if given.model is not None and _is_other_model(given.model, script, has_trained=has_trained):
        return "model"
    if given.optimizers and _are_other_optimizers(given.optimizers, script, has_trained=has_trained):
        return "optimizer"
    return ""


def _is_other_model(model: nn.Module, script: WatchedScript, *, has_trained: bool) -> bool:
    """Return whether it shares no weight with the model that is recorded; a wrapper of a model has its weights."""
    recorded = script.given.model
    if recorded is None:
        recorded = script.finder.likely_model if has_trained else model
    if recorded is None:  # The code has dropped it.
        return True
    weights = {id(weight) for weight in recorded.parameters()}
    return recorded is not model and not any(id(weight) in weights for weight in model.parameters())


def _are_other_optimizers(optimizers: Sequence[Optimizer], script: WatchedScript, *, has_trained: bool) -> bool:
    recorded = script.given.optimizers or (script.optimizers.present if has_trained else optimizers)
    return not any(optimizer is other for optimizer in optimizers for other in recorded)


def _last_uncaught() -> BaseException | None:
    """Return the exception that ended the script, or the last command of an interactive Python."""
    error: BaseException | None = getattr(sys, "last_value", None)
    return error


def say(text: str) -> None:
    """Write one line to stderr: a notebook has no command that could say it."""
    if sys.stderr is not None:
        sys.stderr.write(f"tui-lab: {printable(text)}\n")
        sys.stderr.flush()
