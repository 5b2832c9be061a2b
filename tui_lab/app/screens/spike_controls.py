"""The keys that show the rows of a step, and rewind a run to before it: a fork without them, or with a lower rate."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tui_lab.app.panes.setting_text import format_value
from tui_lab.app.screens.dialogs import Ask, Choice
from tui_lab.app.screens.fork_controls import followed_text, read_checkpoint
from tui_lab.app.session.step_rows import RowsReader
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.checkpoint_names import keep
from tui_lab.util.errors import ConfigError, RunError

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.core.runs.explain import Explanation, Rewind

SCRIPT_HAS_NO_ROWS = "Losses of single rows are recorded only for tui-lab's own runs, not for scripts."


class StartRun(Protocol):
    """Start a new run. overlaid_run: see `LabScreen`; the others: see StartFork."""

    def __call__(self, config: Config, *, fork: bool, old: Config, step: int | None, overlaid_run: Path) -> None: ...


class SpikeControls:
    """Explain steps of the run of a lab; `start` starts the run that is rewound."""

    def __init__(self, lab: "LabScreen", start: StartRun) -> None:
        self._lab = lab
        self._start = start

    def show_rows(self, step: int) -> None:
        """Open the screen with the rows of a step; in a lesson, go on with it."""
        lab = self._lab
        ready = lab.state.ready
        if lab.lesson is not None:
            lab.lesson.enter()  # The key is that of the lesson.
        elif lab.state.is_script:
            lab.notify(SCRIPT_HAS_NO_ROWS)
        elif ready is None or step == 0:
            lab.notify("The run has not made a step yet.")
        else:
            from tui_lab.app.screens.step_rows import StepRowsScreen

            send = lab.source.send if lab.source.role == "training" else None
            reader = RowsReader(Path(ready.path), send)
            lab.app.push_screen(StepRowsScreen(lab.state, reader, step, lab.loss_pane.marked_steps, self.ask))

    def ask(self, explanation: "Explanation") -> None:
        """Ask how to rewind to before a step."""
        lab = self._lab
        choices = [Choice(how, text) for how, text in rewind_choices(explanation).items()]

        def answered(answer: str | None) -> None:
            for how in rewind_choices(explanation):
                if how == answer:
                    lab.run_worker(self._rewind(explanation, how), group="rewind", exclusive=True)

        lab.app.push_screen(Ask(self._question(explanation), (*choices, Choice("cancel", "Cancel"))), answered)

    def _question(self, explanation: "Explanation") -> str:
        """Return from where the run is rewound, how much is done again, and what becomes of this run."""
        lab = self._lab
        playback = lab.source.playback
        last = playback.timeline.end if playback is not None and playback.timeline is not None else lab.state.step
        step = explanation.checkpoint_step
        if step is None:
            start = f"There is no checkpoint before step {explanation.at.step:,}: a new run starts at step 0"
        else:
            start = f"A fork starts at the checkpoint of step {step:,}, the newest before step {explanation.at.step:,}"
        n_again = last - (step or 0)
        text = f"{start}; {n_again:,} step{' is' if n_again == 1 else 's are'} done again. This run is kept."
        is_followed = lab.source.role in ("steering", "watching") and not lab.state.over
        return f"{text} {followed_text(lab.state.phase)}" if is_followed else text

    async def _rewind(self, explanation: "Explanation", how: "Rewind") -> None:
        from tui_lab.core.runs.explain import rewind_settings

        lab = self._lab
        ready = lab.state.ready
        step = explanation.checkpoint_step
        if ready is None:
            return
        path = Path(ready.path)
        try:
            changes = rewind_settings(explanation, how)
            if step is None:
                old = Run(path).trainer_config()
            else:
                if lab.source.role == "training":
                    keep(Run(path).checkpoint_at(step))  # Stopping this run saves it, which would remove an older one.
                progress, _ = await asyncio.to_thread(read_checkpoint, path, step)
                if progress.step != step:
                    raise RunError.of("not_found", f"its checkpoint of step {step:,} is gone", key=ready.name)
                old = progress.config
            config = settings.with_values(old, changes | self._steps())
        except (ConfigError, RunError) as error:
            lab.notify(str(error), severity="warning")
            return
        self._start(config, fork=step is not None, old=old, step=step, overlaid_run=path)

    def _steps(self) -> dict[str, Any]:
        """Return the number of steps, which may be another one since the run was resumed."""
        config = self._lab.state.trainer_config
        return {} if config is None else {"train.steps": config.train.steps}


def rewind_choices(explanation: "Explanation") -> "dict[Rewind, str]":
    """Return the ways to rewind, each with what it changes."""
    from tui_lab.core.runs.explain import rewind_settings

    config = explanation.config
    choices: dict[Rewind, str] = {}
    with suppress(RunError):  # No row stands out.
        skipped = rewind_settings(explanation, "skip")["data.skip_examples"]
        n_more = len(set(skipped) - set(config.data.skip_examples)) - len(explanation.suspects)
        n = len(explanation.suspects)
        rows, them = ("the marked row", "it") if n == 1 else (f"the {n:,} marked rows", "them")
        overlapping = f", and {n_more:,} windows that overlap {them}" if n_more > 0 else ""
        choices["skip"] = f"Skip {rows}{overlapping}"
    lower = rewind_settings(explanation, "lower_lr")["optim.lr"]
    choices["lower_lr"] = f"Halve the learning rate: {format_value(config.optim.lr)} → {format_value(lower)}"
    return choices
