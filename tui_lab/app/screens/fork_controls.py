"""The key that forks a run: a new run from its last checkpoint."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of
from tui_lab.app.panes.setting_text import changes_text
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.fork_fit import may_change_tokenizer, require_fit, require_same_tokenizer
from tui_lab.util.errors import ConfigError, DataError, LabError, RunError

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.core.training.checkpoint import Progress


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

        edited: the settings in effect, with the user's edits. A replay, or the run of another process, may be at
        another step than the checkpoint: then the settings are those of the checkpoint, with the same edits, and the
        user is asked. Edits that do not fit the weights are refused.
        """
        state = self._lab.state
        in_effect = state.trainer_config or edited
        of_pane = self._lab.config_pane.settings
        if self._lab.source.role != "training" and state.ready is not None and of_pane is not None:
            edits = settings.differences(in_effect, edited) | of_pane.edits
            self._lab.run_worker(
                self._fork_from_checkpoint(Path(state.ready.path), edits), group="fork", exclusive=True
            )
        elif state.over and state.step >= edited.train.steps:
            ask = partial(self._ask_for_steps, state.step, edited, in_effect)
            self._if_fits(in_effect, edited, state.step, ask)
        else:
            self._if_fits(in_effect, edited, state.step, partial(self._start, edited, fork=True, old=in_effect))

    async def _fork_from_checkpoint(self, path: Path, edits: dict[str, object]) -> None:
        try:
            progress = await asyncio.to_thread(_read_progress, path)
            config = settings.with_values(progress.config, edits)
        except (ConfigError, RunError) as error:
            self._lab.notify(str(error), severity="warning")
            return
        if not self._lab.is_current:
            return  # The user has gone on meanwhile: a question would cover what is open now.
        step = progress.step
        start = partial(self._start, config, fork=True, old=progress.config)
        if step >= config.train.steps:
            start = partial(self._ask_for_steps, step, config, progress.config)
        elif step != self._lab.state.step or self._is_followed:
            start = partial(self._ask_for_step, step, changes_text(progress.config, config), start)
        self._if_fits(progress.config, config, step, start)

    @property
    def _is_followed(self) -> bool:
        """Whether another process trains the run now."""
        return self._lab.source.role != "replay" and not self._lab.state.over

    def _if_fits(self, old: Config, config: Config, step: int, start: Callable[[], None]) -> None:
        """Call `start` if the weights of the checkpoint fit `config`; else say which setting does not."""
        try:
            require_fit(old, config, step)
        except ConfigError as error:
            self._refuse(error)
            return
        ready = self._lab.state.ready
        if ready is None or not may_change_tokenizer(old, config):
            start()
        else:
            check = self._if_same_tokenizer(old, config, Path(ready.path), start)
            self._lab.run_worker(check, group="tokenizer", exclusive=True)

    async def _if_same_tokenizer(self, old: Config, config: Config, path: Path, start: Callable[[], None]) -> None:
        """Encode the text in a thread, and call `start` if its tokens are those of the run in `path`."""
        from tui_lab.core.training.task_factory import build_task

        def check() -> None:
            require_same_tokenizer(old, config, Run(path), build_task(config).tokenizer)

        try:
            await asyncio.to_thread(check)
        except (ConfigError, DataError, RunError) as error:
            self._refuse(error)
        else:
            start()

    def _refuse(self, error: LabError) -> None:
        key = keymap_of(self._lab.app).key_of(BY_ID["restart"])
        self._lab.notify(f"{error}\n{key} starts a new run with your edits, at step 0.", severity="warning")

    def _ask_for_step(self, step: int, changes: str, start: Callable[[], None]) -> None:
        """Ask whether to fork at the step of the checkpoint, which is not the one that is shown."""
        state = self._lab.state
        if self._is_followed:
            key = keymap_of(self._lab.app).key_of(BY_ID["checkpoint"])
            lines = [
                f"The run is at step {state.step:,}, its last checkpoint at step {step:,} ({key} saves one now).",
                followed_text(state.phase),
            ]
        else:
            lines = [f"The replay is at step {state.step:,}; the only saved weights are those of step {step:,}."]
        lines.append(f"The fork has the settings of step {step:,}{f', and your edits: {changes}' if changes else ''}.")
        choices = (Choice("fork", f"Fork at step {step:,}"), Choice("cancel", "Cancel"))
        self._lab.app.push_screen(Ask(" ".join(lines), choices), lambda answer: start() if answer == "fork" else None)

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


def _read_progress(path: Path) -> "Progress":
    """Return the progress of a run's last checkpoint; for a thread, since torch may be imported. Raises RunError."""
    from tui_lab.core.training import checkpoint as ckpt

    return Run(path).read_latest(ckpt.load_progress)


def followed_text(phase: str) -> str:
    """Return what the run of another process does when the app leaves it."""
    return f"It {'stays paused' if phase == 'paused' else 'trains on'} in its process."
