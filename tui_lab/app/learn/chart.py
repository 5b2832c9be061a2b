"""What a lesson draws into the loss chart: guesses, trials, and the run before, in gray."""

from typing import TYPE_CHECKING

from tui_lab.app.learn.guide import Guide, guesses
from tui_lab.app.learn.trials import Trials
from tui_lab.app.panes.loss_curves import Backdrop
from tui_lab.app.panes.loss_curves import Guess as DrawnGuess
from tui_lab.app.panes.overlays import Overlay, read_overlay
from tui_lab.core.lessons.facts import measure
from tui_lab.core.runs.folder import Run

if TYPE_CHECKING:
    from tui_lab.app.panes.loss import LossPane
    from tui_lab.app.session.state import LabState


class LessonChart:
    """Draws into the loss pane of the lab that is attached."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._pane: LossPane | None = None
        self._drawn_run: str | None = None
        """The current run when the earlier runs were drawn."""

    def attach(self, pane: "LossPane") -> None:
        self._pane = pane
        self._drawn_run = None
        pane.backdrop = Backdrop(from_zero=True)

    def follow(self, state: "LabState", trials: Trials | None, *, grown: bool) -> None:
        """Draw what has changed. grown: whether the trials have new points."""
        assert self._pane is not None
        hides = hides_validation(state)
        is_new_run = self.current_run_name != self._drawn_run  # The folder of a new run exists only once it is open.
        if is_new_run:
            self.draw_runs(trials)
        elif grown and trials is not None:
            self._pane.overlays = [trial.overlay for trial in trials.started]
        backdrop = self._pane.backdrop
        # Before the first step, ln V would answer a question that is still to come.
        hides_references = state.last is None or self._guide.hides_ln_vocab_size
        drawn = (backdrop.hides_validation, backdrop.hides_references)
        if is_new_run or grown or drawn != (hides, hides_references):
            backdrop.hides_validation = hides
            backdrop.hides_references = hides_references
            self._pane.redraw()

    def draw_runs(self, trials: Trials | None) -> None:
        """Draw the trials since the current run began, and the run before a fix in gray.

        trials: those that the stage has started here.
        """
        assert self._pane is not None
        self._drawn_run = self.current_run_name
        self._pane.backdrop.ghosts = self._ghosts()
        self._pane.overlays = self._recorded_trials()
        if trials is not None:
            self._pane.overlays = [trial.overlay for trial in trials.started]

    def draw_guesses(self) -> None:
        assert self._pane is not None
        backdrop = self._pane.backdrop
        backdrop.guesses = [DrawnGuess(each.metric, each.step, each.value) for each in guesses(self._guide.progress)]
        self._pane.redraw()

    @property
    def current_run_name(self) -> str:
        run = self._guide.progress.current_run(self._guide.stage.id)
        return "" if run is None else run.name

    def _recorded_trials(self) -> list[Overlay]:
        """Return the curves of the latest trials, unless a new run was started since."""
        progress = self._guide.progress
        for stage in reversed(progress.lesson.stages[: self._guide.index + 1]):
            if runs := progress.trials_of(stage.id):
                labels = [trial.label for trial in stage.trials]
                return [overlay_of(run, label) for run, label in zip(runs, labels, strict=False)]
            if progress.run_of(stage.id) is not None:
                break
        return []

    def _ghosts(self) -> list[Overlay]:
        progress = self._guide.progress
        stages = reversed(progress.lesson.stages[: self._guide.index + 1])
        stage = next((stage for stage in stages if progress.run_of(stage.id) is not None), None)
        before = progress.run_before(stage.id) if stage is not None and stage.keeps_last else None
        return [] if before is None else [overlay_of(before, before.name)]


def overlay_of(run: Run, label: str) -> Overlay:
    """Return the loss at each step of a run, not its running mean, so that the curve looks as when it was trained."""
    overlay = read_overlay(run)
    measured = measure(run.downsampled().events())
    series = overlay.curves.get("loss")
    if series is not None:
        series.points = list(zip(measured.steps, measured.losses, strict=True))
    return Overlay(run.path, label, overlay.curves, overlay.progress)


def hides_validation(state: "LabState") -> bool:
    """Return whether the validation loss is measured only at the end, where it would stretch the chart, or not yet."""
    config = state.trainer_config
    return state.run_config is None or (config is not None and not config.train.eval_every)
