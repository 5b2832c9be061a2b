"""The weights that a run has saved, for commands that look at a model when none trains in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.core import commands as cmd
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from tui_lab.core.inference.load_model import ChosenWeights
    from tui_lab.core.user_code.external_model import Model

NO_CHECKPOINT = "no checkpoint yet"


class SavedWeights:
    """Answer Snapshot and Inspect from the checkpoints of `run`.

    at_step: from which one, see `Run.checkpoint_at`; by default the last. The model is loaded at the first command, and
    again whenever that is another one.
    """

    def __init__(self, run: Run, at_step: Callable[[], int | None] = lambda: None) -> None:
        self._run = run
        self._at_step = at_step
        self._loaded: tuple[Path, ChosenWeights, Model] | None = None

    def answer(self, command: cmd.Snapshot | cmd.Inspect) -> None:
        """Call what the command asks for, or its `refuse`.

        Panes look at the model unasked, and show themselves what they lack: before the first checkpoint a look is only
        refused. Raises ConfigError, DataError or RunError where there is no model and the command cannot be refused.
        """
        if not self._run.has_checkpoint:
            if command.refuse is not None:
                command.refuse(NO_CHECKPOINT)
                return
            if isinstance(command, cmd.Inspect):
                return
        try:
            self._answer(command)
        except (ConfigError, DataError, RunError) as error:
            if isinstance(command, cmd.Inspect) or command.refuse is None:
                raise
            command.refuse(str(error))
        except BaseException as error:  # The model may be the user's, whose code may even call sys.exit().
            reason = f"looking at the saved weights failed: {error!r}"
            if not cmd.refuse(command, reason):
                raise RunError.of("user_code", reason, key=str(self._run.path)) from error

    def _answer(self, command: cmd.Snapshot | cmd.Inspect) -> None:
        import torch

        chosen, model = self._load()
        info = cmd.WeightsInfo(chosen.step, best=chosen.which == "best")
        with torch.no_grad():
            if isinstance(command, cmd.Snapshot):
                command.receive(model.state_dict(), info)
            else:
                if command.loaded is not None:
                    command.loaded(info)
                command.look(model)

    def _load(self) -> "tuple[ChosenWeights, Model]":
        from tui_lab.core.inference.load_model import load_chosen

        step = self._at_step()
        path = self._run.checkpoint_at(step)
        if self._loaded is None or self._loaded[0] != path:
            chosen, model, _ = load_chosen(self._run, at_step=step)
            self._loaded = (path, chosen, model)
        return self._loaded[1:]
