"""The key that forks a run: a new run from one of its checkpoints."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tui_lab.app.actions import BY_ID
from tui_lab.app.keymap import keymap_of
from tui_lab.app.panes.setting_text import changes_text
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.run_controls import pause_replay
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.fork_fit import may_change_tokenizer, require_fit, require_same_tokenizer
from tui_lab.core.training.checkpoint_names import step_of
from tui_lab.util.errors import ConfigError, DataError, LabError, RunError

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.core.training.checkpoint import Progress


MAX_OTHERS = 4
"""Steps of other checkpoints that a question names."""


SECONDS_BEFORE_NEWS = 0.3
"""After that, the status line says that the checkpoint is still being read: torch may have to be imported."""


class StartFork(Protocol):
    """Start a new run with the weights of a checkpoint and a config.

    old: the settings at the checkpoint. step: that of the checkpoint; None: the last one.
    """

    def __call__(self, config: Config, *, fork: bool, old: Config, step: int | None) -> None: ...


@dataclass(frozen=True)
class _Fork:
    """A fork that the user asked for. old: the settings at the checkpoint; cancel: called if nothing comes of it.

    is_last: whether it is that of the last checkpoint, whatever its step is by then.
    """

    config: Config
    old: Config
    step: int
    cancel: Callable[[], None]
    is_last: bool = False


class ForkControls:
    """Fork the run of a lab; `start` starts the new run."""

    def __init__(self, lab: "LabScreen", start: StartFork) -> None:
        self._lab = lab
        self._start = start

    def fork(self, edited: Config) -> None:
        """Start a new run from a checkpoint; if that is at the last step, ask for how many steps.

        edited: the settings in effect, with the user's edits. The checkpoint is the last one, and of a replay the last
        one until its step. If it is of another step than the one shown, the settings are those of the checkpoint, with
        the same edits, and the user is asked. Edits that do not fit the weights are refused.
        """
        state = self._lab.state
        in_effect = state.trainer_config or edited
        of_pane = self._lab.config_pane.settings
        if self._lab.source.role != "training" and state.ready is not None and of_pane is not None:
            edits = settings.differences(in_effect, edited) | of_pane.edits
            cancel = pause_replay(self._lab.source)
            self._lab.run_worker(
                self._fork_from_checkpoint(Path(state.ready.path), edits, cancel), group="fork", exclusive=True
            )
            return
        fork = _Fork(edited, in_effect, state.step, lambda: None, is_last=True)
        is_done = state.over and state.step >= edited.train.steps
        self._if_fits(fork, partial(self._ask_for_steps if is_done else self._carry_out, fork))

    async def _fork_from_checkpoint(self, path: Path, edits: dict[str, object], cancel: Callable[[], None]) -> None:
        at_step = self._lab.state.step if self._lab.source.role == "replay" else None
        try:
            reading = asyncio.ensure_future(asyncio.to_thread(read_checkpoint, path, at_step))
            done, _ = await asyncio.wait({reading}, timeout=SECONDS_BEFORE_NEWS)
            if not done:
                self._lab.frames.answer("reading the checkpoint …")
            progress, other_steps = await reading
            config = settings.with_values(progress.config, edits)
        except (ConfigError, RunError) as error:
            self._lab.notify(str(error), severity="warning")
            cancel()
            return
        if not self._lab.is_current:
            cancel()
            return  # The user has gone on meanwhile: a question would cover what is open now.
        fork = _Fork(config, progress.config, progress.step, cancel, is_last=at_step is None)
        go_on = self._carry_out
        if fork.step >= config.train.steps:
            go_on = self._ask_for_steps
        elif fork.step != self._lab.state.step or self._is_followed:
            go_on = partial(self._ask_for_step, other_steps)
        self._if_fits(fork, partial(go_on, fork))

    def _carry_out(self, fork: _Fork) -> None:
        self._start(fork.config, fork=True, old=fork.old, step=None if fork.is_last else fork.step)

    @property
    def _is_followed(self) -> bool:
        """Whether another process trains the run now."""
        return self._lab.source.role != "replay" and not self._lab.state.over

    def _if_fits(self, fork: _Fork, go_on: Callable[[], None]) -> None:
        """Call `go_on` if the weights of the checkpoint fit the config; else say which setting does not."""
        try:
            require_fit(fork.old, fork.config, fork.step)
        except ConfigError as error:
            self._refuse(fork, error)
            return
        ready = self._lab.state.ready
        if ready is None or not may_change_tokenizer(fork.old, fork.config):
            go_on()
        else:
            check = self._if_same_tokenizer(fork, Path(ready.path), go_on)
            self._lab.run_worker(check, group="tokenizer", exclusive=True)

    async def _if_same_tokenizer(self, fork: _Fork, path: Path, go_on: Callable[[], None]) -> None:
        """Encode the text in a thread, and call `go_on` if its tokens are those of the run in `path`."""
        from tui_lab.core.training.task_factory import build_task

        def check() -> None:
            require_same_tokenizer(fork.old, fork.config, Run(path), build_task(fork.config).tokenizer)

        try:
            await asyncio.to_thread(check)
        except (ConfigError, DataError, RunError) as error:
            self._refuse(fork, error)
        else:
            go_on()

    def _refuse(self, fork: _Fork, error: LabError) -> None:
        key = keymap_of(self._lab.app).key_of(BY_ID["restart"])
        self._lab.notify(f"{error}\n{key} starts a new run with your edits, at step 0.", severity="warning")
        fork.cancel()

    def _ask_for_step(self, other_steps: list[int], fork: _Fork) -> None:
        """Ask whether to fork at the step of the checkpoint, which is not the one that is shown."""
        state = self._lab.state
        if self._is_followed:
            key = keymap_of(self._lab.app).key_of(BY_ID["checkpoint"])
            lines = [
                f"The run is at step {state.step:,}, its last checkpoint at step {fork.step:,} ({key} saves one now).",
                followed_text(state.phase),
            ]
        else:
            lines = [nearest_text(state.step, fork.step, other_steps)]
        changes = changes_text(fork.old, fork.config)
        lines.append(
            f"The fork has the settings of step {fork.step:,}{f', and your edits: {changes}' if changes else ''}."
        )
        choices = (Choice("fork", f"Fork at step {fork.step:,}"), Choice("cancel", "Cancel"))
        self._ask(
            Ask(" ".join(lines), choices),
            lambda answer: self._carry_out(fork) if answer == "fork" else fork.cancel(),
        )

    def _ask(self, dialog: Ask | AskLine, answered: Callable[[str | None], None]) -> None:
        """Open a dialog once the lab shows that the replay is paused: nothing is drawn below a dialog."""
        self._lab.frames.answer("")
        self._lab.tick()
        self._lab.call_after_refresh(self._lab.app.push_screen, dialog, answered)

    def _ask_for_steps(self, fork: _Fork) -> None:
        def answered(text: str | None) -> None:
            if text is None:
                fork.cancel()
                return
            try:
                if not text.isdecimal() or int(text) == 0:
                    raise ConfigError.of("invalid", "type a whole number of at least 1", key="steps", value=text)
                config = settings.changed(fork.config, "train.steps", fork.step + int(text))
            except ConfigError as error:
                self._lab.notify(str(error.problems[0]), severity="warning")
                fork.cancel()
            else:
                self._carry_out(replace(fork, config=config))

        shown = self._lab.state.step
        where = f"The replay is at step {shown:,}, before the first checkpoint. " if shown < fork.step else ""
        question = f"{where}The fork starts at step {fork.step:,}, where the run has made all its steps. How many more?"
        self._ask(AskLine(question, str(fork.config.train.steps), enter="fork"), answered)


def nearest_text(shown: int, step: int, other_steps: list[int]) -> str:
    """Return which checkpoint a replay at the step `shown` is forked from, and which others there are."""
    if not other_steps:
        return f"The replay is at step {shown:,}; the only checkpoint is that of step {step:,}."
    where = "the nearest checkpoint before it" if step < shown else "the first checkpoint"
    others = ", ".join(f"{other:,}" for other in other_steps[:MAX_OTHERS])
    more = ", …" if len(other_steps) > MAX_OTHERS else ""
    return f"The replay is at step {shown:,}; {where} is that of step {step:,} (others: {others}{more})."


def read_checkpoint(path: Path, at_step: int | None) -> "tuple[Progress, list[int]]":
    """Return the progress of the run's checkpoint for `at_step`, and the steps of its other ones.

    For a thread, since torch may be imported. Raises RunError.
    """
    from tui_lab.core.training import checkpoint as ckpt

    run = Run(path)
    progress = run.read_checkpoint(at_step, ckpt.load_progress)
    return progress, [step for step in map(step_of, run.saved_checkpoints()) if step != progress.step]


def followed_text(phase: str) -> str:
    """Return what the run of another process does when the app leaves it."""
    return f"It {'stays paused' if phase == 'paused' else 'trains on'} in its process."
