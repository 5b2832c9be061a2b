"""Leads through a lesson: starts what its stages need, and draws guesses, trials and earlier runs into the chart."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tui_lab.app.learn.guide import Guide
from tui_lab.app.learn.measure import measurements
from tui_lab.app.learn.sources import PreparedSession
from tui_lab.app.learn.strip_text import Page, bar, enter_text, pages, terms
from tui_lab.app.learn.trials import Trial, Trials
from tui_lab.app.panes.loss_curves import Backdrop
from tui_lab.app.panes.loss_curves import Guess as DrawnGuess
from tui_lab.app.panes.overlays import Overlay, read_overlay
from tui_lab.app.session.messages import Diagnosed
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.facts import Measurements, measure
from tui_lab.core.lessons.progress import Progress
from tui_lab.core.runs.folder import Run
from tui_lab.runs.numbers import short_number
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.app.learn.screen import LessonScreen
    from tui_lab.app.session.state import LabState

PANES = {"config": 1, "loss": 2, "batch": 3, "generation": 4, "events": 5, "doctor": 6, "system": 7}
MOST_OF_LN_VOCAB_SIZE = 1.1
"""From a loss above that share of ln V, there is no way from ln V to zero."""


class LessonController:
    """Outlives the labs of the lesson's runs: each one is attached when it opens.

    make_trials: returns what runs trials; another one in tests.
    """

    def __init__(self, progress: Progress, make_trials: Callable[[Sequence[Trial]], Trials] = Trials) -> None:
        self.guide = Guide(progress)
        self._make_trials = make_trials
        self._trials: Trials | None = None
        self._page = 0
        self._lab: LessonScreen | None = None
        self._drawn_run = ""
        """The current run when the chart's backdrop was drawn."""
        self._starting: Literal["", "paused", "new"] = ""
        """Which run is to start: the one that was opened paused, or a new one in another lab."""
        self._measured: tuple[object, Measurements] | None = None
        self._next_term = 0

    # The lab

    @property
    def progress(self) -> Progress:
        return self.guide.progress

    @property
    def lab(self) -> "LessonScreen":
        assert self._lab is not None
        return self._lab

    def attach(self, lab: "LessonScreen") -> None:
        """Go on in another lab."""
        self._lab = lab
        self._starting = ""
        self._measured = None
        self.lab.loss_pane.backdrop = Backdrop(from_zero=True)
        self.show_stage(self._page if self.guide.need == "wait" else 0)

    def is_attached_to(self, lab: "LessonScreen") -> bool:
        return self._lab is lab

    def detach(self, lab: "LessonScreen") -> None:
        """The lab is being closed."""
        if self._lab is not lab:
            return
        self._lab = None
        if self._trials is not None:
            self._trials.stop()
            if not self._trials.done:
                self.guide.done.trials = []  # They start again.
                self.guide.save()
            self._trials = None

    def new_run_folder(self) -> Path:
        """Return a folder for a new run of the lesson, which becomes the current one. Raises RunError."""
        folder = self.progress.new_run_folder(self.guide.stage.id)
        self.guide.run_started(folder.name)
        return folder

    # Ticks

    def follow(self) -> None:
        """Take what the run and the trials have measured, and draw the strip."""
        state = self.lab.state
        if self._starting == "paused" and state.phase == "paused":
            self._starting = ""
            if isinstance(self.lab.source, PreparedSession):
                self.lab.source.release()
            self.lab.source.send(cmd.Resume())
        if self._trials is not None and self._trials.poll():
            self._draw_trials(self._trials)
            if self._trials.done and self.guide.need == "wait":
                self.guide.trials = self._trials.measured
                self.guide.trials_ended()
                self._stage_changed()
        if self._current_run_name != self._drawn_run:  # The folder of a new run exists only once it is open.
            self._draw_chart()
            self.lab.loss_pane.redraw()
        trials = () if self._trials is None else self._trials.measured
        if self.guide.update(self._measure(state), trials):
            self._stage_changed()
        self.draw_strip()

    def _measure(self, state: "LabState") -> Measurements | None:
        """Return what is measured of the current run, which the lab shows; None before it has started."""
        if state.ready is None or state.started is None:
            return None
        if Path(state.ready.path).name != self._current_run_name:
            return None
        key = (state.step, state.over, state.evaluated, state.ready.path)
        if self._measured is None or self._measured[0] != key:
            self._measured = key, measurements(state)
        return self._measured[1]

    @property
    def _current_run_name(self) -> str:
        run = self.progress.current_run(self.guide.stage.id)
        return "" if run is None else run.name

    def receive(self, message: Diagnosed) -> None:
        """The doctor has looked at the current run's settings."""
        if self.guide.stage.diagnose is not None and self.guide.need == "action":
            self.guide.diagnosed([str(finding.code) for finding in message.report.findings])
            self._stage_changed()

    # Keys

    def enter(self) -> None:
        """Show the next page, start what the stage needs, or go to the next stage."""
        if self._starting:
            return
        if self._page < len(self._pages) - 1:
            self._page += 1
            self._stage_changed()
            return
        match self.guide.need:
            case "action":
                self._act()
            case "nothing":
                self.next_stage()
            case "question" if self.lab.strip.field.display:
                self.lab.set_focus(self.lab.strip.field)
            case _:
                pass

    def next_stage(self) -> None:
        if self.guide.leave_forward():
            self.show_stage()
        else:
            self.lab.action_do("home")

    def previous(self) -> None:
        """Go back a page, or to the stage before."""
        if self._page:
            self._page -= 1
            self._stage_changed()
        elif self.guide.go_to(self.guide.index - 1):
            self.show_stage()

    def answer(self, given: float) -> None:
        self.guide.answer(given)
        self._page = len(self._pages) - 1
        self.lab.set_focus(self.lab.strip)
        self._stage_changed()

    @property
    def has_terms(self) -> bool:
        """Whether the text has links to the glossary."""
        return bool(terms(self.guide))

    def next_term(self) -> str | None:
        """Return the term of the text's next link to the glossary; after the last one comes the first."""
        all_terms = terms(self.guide)
        if not all_terms:
            return None
        self._next_term += 1
        return all_terms[(self._next_term - 1) % len(all_terms)].term

    # What a stage starts

    def _act(self) -> None:
        stage = self.guide.stage
        configs = self.progress.lesson.configs[stage.id]
        try:
            if configs.start is not None:
                self._start_run(configs.start)
            elif stage.trials:
                self._start_trials(configs.trials)
            elif stage.diagnose is not None:
                self.lab.diagnose_lesson()
            elif stage.terminal is not None:
                self.guide.confirmed()
        except RunError as error:
            self.lab.notify(str(error), severity="error")
        self._stage_changed()

    def _start_run(self, config: Config) -> None:
        """Start the run that was opened paused, if it is this one; otherwise a new one, in another lab."""
        lab = self.lab
        if lab.prepared == self.guide.stage.id and lab.prepared_folder is not None and not lab.state.step:
            self.guide.run_started(lab.prepared_folder.name)
            lab.prepared = ""
            self._starting = "paused"
            return
        self._starting = "new"
        lab.post_message(lab.Restart(lab, self.guide.stage.id, config, fork=False, diagnose=False))

    def _start_trials(self, configs: Sequence[Config]) -> None:
        stage = self.guide.stage
        if not self.lab.state.over:
            self.lab.source.send(cmd.Pause())  # Two runs at once would share the processor.
        trials = [
            Trial(trial.label, config, self.progress.new_run_folder(stage.id, number))
            for number, (trial, config) in enumerate(zip(stage.trials, configs, strict=True), 1)
        ]
        self._trials = self._make_trials(trials)
        self.guide.trials_started([trial.folder.name for trial in trials])

    # What is shown

    def show_stage(self, page: int = 0) -> None:
        """Show a page of the stage, by default the first one, and the pane it is about."""
        self._next_term = 0
        self._page = page
        pane = PANES.get(self.guide.stage.pane or "")
        if pane is not None:
            self.lab.go_to(pane)
        self.lab.set_focus(self.lab.strip)
        self._draw_chart()
        self._stage_changed()

    def _stage_changed(self) -> None:
        if self.guide.done.failed_facts:
            self._page = len(self._pages) - 1
        self.lab.loss_pane.backdrop.guesses = [DrawnGuess(g.metric, g.step, g.value) for g in self.guide.guesses]
        self.lab.loss_pane.backdrop.hides_references = self.guide.hides_ln_vocab_size
        self.lab.loss_pane.redraw()
        self.draw_strip()
        if self.lab.strip.field.display:
            self.lab.set_focus(self.lab.strip.field)
        self.lab.refresh_bindings()

    @property
    def _pages(self) -> list[Page]:
        width, lines = self.lab.room
        return pages(self.guide, width, lines)

    def draw_strip(self) -> None:
        """Draw the page and the bar."""
        lab = self.lab
        width, lines = lab.room
        shown = pages(self.guide, width, lines)
        self._page = min(self._page, len(shown) - 1)
        page = shown[self._page]
        question = self.guide.stage.question
        lab.strip.takes_choices = page.asks and question is not None and question.kind == "choice"
        asks_number = page.asks and question is not None and question.kind == "number"
        is_busy = bool(self._starting) or (self.guide.stage.diagnose is not None and lab.doctor.busy)
        right = ("" if is_busy else enter_text(self.guide, self._page, shown)) or self._status()
        lab.strip.show(page.text, bar(self.guide, right, lab.bar_width), asks_number=asks_number)

    def _status(self) -> str:
        """Return what happens while the student waits."""
        if self.guide.stage.diagnose is not None:
            return "the doctor looks…"
        if self._trials is not None and self.guide.stage.trials:
            return self._trials_status(self._trials)
        state = self.lab.frames.shown
        if state.phase == "failed":
            return "the run failed; pane 5 says why"
        if self._starting or state.started is None:
            return f"{state.doing}…" if state.phase == "loading" else "starts…"
        return run_status(state)

    def _trials_status(self, trials: Trials) -> str:
        if trials.error:
            return f"a trial failed: {trials.error}"
        running = trials.running
        if running is None:
            return "starts…"
        number = trials.trials.index(running) + 1
        steps = running.config.train.steps
        return f"{number} of {len(trials.trials)}: {running.label}, step {running.state.step}/{steps}"

    # The chart

    def _draw_chart(self) -> None:
        """Draw the run before a fix in gray, and the trials since the current run began."""
        loss_pane = self.lab.loss_pane
        self._drawn_run = self._current_run_name
        loss_pane.backdrop.ghosts = list(self._ghosts_of_current())
        if self._trials is not None:
            self._draw_trials(self._trials)
        else:
            loss_pane.overlays = self._recorded_trials()

    def _draw_trials(self, trials: Trials) -> None:
        self.lab.loss_pane.overlays = [trial.overlay for trial in trials.started]
        self.lab.loss_pane.redraw()

    def _recorded_trials(self) -> list[Overlay]:
        """Return the curves of the latest trials, unless a new run was started since."""
        for stage in reversed(self.progress.lesson.stages[: self.guide.index + 1]):
            if runs := self.progress.trials_of(stage.id):
                labels = [trial.label for trial in stage.trials]
                return [overlay_of(run, label) for run, label in zip(runs, labels, strict=False)]
            if self.progress.run_of(stage.id) is not None:
                break
        return []

    def _ghosts_of_current(self) -> list[Overlay]:
        stages = self.progress.lesson.stages
        for index in range(self.guide.index, -1, -1):
            if self.progress.run_of(stages[index].id) is None:
                continue
            if not (stages[index].keeps_last and index):
                return []
            before = self.progress.current_run(stages[index - 1].id)
            return [] if before is None else [overlay_of(before, before.name)]
        return []


def overlay_of(run: Run, label: str) -> Overlay:
    """Return the loss at each step of a run, not its running mean, so that the curve looks as when it was trained."""
    overlay = read_overlay(run)
    measured = measure(run.downsampled().events())
    series = overlay.curves.get("loss")
    if series is not None:
        series.points = list(zip(measured.steps, measured.losses, strict=True))
    return Overlay(run.path, label, overlay.curves, overlay.progress)


def run_status(state: "LabState") -> str:
    """Return where a run is: its step, its loss, and how far that is on the way from ln V to zero."""
    steps = 0 if state.config is None else state.config.train.steps
    parts = [f"step {state.step:,}/{steps:,}" if steps else f"step {state.step:,}"]
    loss = state.curves["loss"].last
    if loss is not None:
        parts.append(f"loss {short_number(loss)}")
        if (share := share_of_way(state)) is not None:
            parts.append(f"{share:.0%} of the way to 0")
    return " · ".join(parts)


def share_of_way(state: "LabState") -> float | None:
    """Return how far the mean of the last losses is from ln V to zero; None if the model has no vocabulary."""
    chance = state.chance_loss
    loss = measurements(state).value("loss")
    if chance is None or loss is None or loss > MOST_OF_LN_VOCAB_SIZE * chance:
        return None
    return max(0.0, 1 - loss / chance)
