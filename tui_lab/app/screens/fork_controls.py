"""The key that forks a run: a new run from its last checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import ConfigError, RunError

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen


class StartFork(Protocol):
    """Start a new run with the weights of the last checkpoint and a config. old: the settings at the checkpoint."""

    def __call__(self, config: Config, *, fork: bool, old: Config) -> None: ...


class ForkControls:
    """Fork the run of a lab; `start` starts the new run."""

    def __init__(self, lab: "LabScreen", start: StartFork) -> None:
        self._lab = lab
        self._start = start

    def fork(self, edited: Config) -> None:
        """Start a new run from the last checkpoint; if that is at the last step, ask for how many steps.

        edited: the settings in effect, with the user's edits. A replay may be at another step than the checkpoint: then
        the settings are those of the checkpoint, with the same edits, and the user is asked.
        """
        state = self._lab.state
        in_effect = state.trainer_config or edited
        of_pane = self._lab.config_pane.settings
        if self._lab.source.role == "replay" and state.ready is not None and of_pane is not None:
            self._fork_replay(Path(state.ready.path), settings.differences(in_effect, edited) | of_pane.edits)
        elif state.over and state.step >= edited.train.steps:
            self._ask_for_steps(state.step, edited, in_effect)
        else:
            self._start(edited, fork=True, old=in_effect)

    def _fork_replay(self, path: Path, edits: dict[str, object]) -> None:
        from tui_lab.core.training import checkpoint as ckpt

        try:
            progress = Run(path).read_latest(ckpt.load_progress)
            config = settings.with_values(progress.config, edits)
        except (ConfigError, RunError) as error:
            self._lab.notify(str(error), severity="warning")
            return
        if progress.step >= config.train.steps:
            self._ask_for_steps(progress.step, config, progress.config)
        elif progress.step == self._lab.state.step:
            self._start(config, fork=True, old=progress.config)
        else:
            self._ask_for_step(progress.step, lambda: self._start(config, fork=True, old=progress.config))

    def _ask_for_step(self, step: int, start: Callable[[], None]) -> None:
        """Ask whether to fork at the step of the checkpoint, which is not the one that is shown."""
        question = (
            f"The replay is at step {self._lab.state.step:,}; the only saved weights are those of step {step:,}. "
            f"The fork has the settings of step {step:,}, and your edits."
        )
        choices = (Choice("fork", f"Fork at step {step:,}"), Choice("cancel", "Cancel"))
        self._lab.app.push_screen(Ask(question, choices), lambda answer: start() if answer == "fork" else None)

    def _ask_for_steps(self, step: int, config: Config, old: Config) -> None:
        def answered(text: str | None) -> None:
            if text is None:
                return
            try:
                if not text.isdecimal() or int(text) == 0:
                    raise ConfigError.of("invalid", "type a whole number of at least 1", key="steps", value=text)
                self._start(settings.changed(config, "train.steps", step + int(text)), fork=True, old=old)
            except ConfigError as error:
                self._lab.notify(str(error.problems[0]), severity="warning")

        question = f"The fork starts at step {step:,}, where the run has made all its steps. How many more?"
        self._lab.app.push_screen(AskLine(question, str(config.train.steps), enter="fork"), answered)
